using System.Text;
using Experiments.Results.Sweeps;

namespace Experiments.Results.Tests.Sweeps;

public sealed class IdentityTests
{
    private static readonly InstanceSpec Instance =
        new("uniform", 16, 4, 0.25, 0, 1, new Dictionary<string, object>(), new Dictionary<string, object>());

    private static readonly TrialSpec Trial = new(
        "low-rank", "float32", 1,
        new Dictionary<string, object> { ["form"] = "paper", ["degree"] = 3L, ["centred"] = true, ["basis"] = "taylor" });

    // Made by Python's hashlib from the canonical text: SHA-256, the first 16 bytes.
    [Fact]
    public void Keys_are_what_they_were_when_the_first_references_were_stored()
    {
        Assert.Equal(new Guid("8d54d390-a788-611d-72df-963cb8dafa99"), Instance.Key);
        Assert.Equal(new Guid("d2262b1b-0a11-f98e-26a5-8ac793394584"), Trial.KeyOn(Instance));
    }

    [Fact]
    public void A_copy_that_differs_has_a_key_of_its_own()
    {
        Guid before = Instance.Key;
        InstanceSpec other = Instance with { Repeat = 1 };
        Assert.NotEqual(before, other.Key);
        Assert.Equal(before, (other with { Repeat = 0 }).Key);
    }

    [Fact]
    public void A_trials_key_made_of_parts_is_the_key_however_long_its_settings_are()
    {
        foreach (int length in new[] { 0, 400, 479, 480, 5000 })
        {
            TrialSpec trial = Trial with
            {
                Settings = new Dictionary<string, object> { ["word"] = new string('ä', length) },
            };
            byte[] whole = Encoding.UTF8.GetBytes($"{Instance.Key:N}\n{Identity.Canonical(trial)}");
            Assert.Equal(
                new Guid(System.Security.Cryptography.SHA256.HashData(whole).AsSpan(0, 16), bigEndian: true), trial.KeyOn(Instance));
        }
    }
}
