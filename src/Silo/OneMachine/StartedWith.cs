using System.Security.Cryptography;
using System.Text;

namespace Experiments.Silo.OneMachine;

/// <summary>What a silo was started with, as a text that it is given and says again, so that who would start it otherwise today sees in what.</summary>
/// <remarks>Values are hashed: there are connection strings among them.</remarks>
internal static class StartedWith
{
    /// <summary>By which a silo is given the text.</summary>
    public const string Variable = "EXPERIMENTS_SILO_STARTED_WITH";

    // Enough to tell two settings of one machine apart, and too little to find a password that nobody could guess. Who could guess it sees whether he is
    // right: it lies in the folder that only its owner reads.
    private const int Digits = 8;

    /// <summary>Null where nobody gave one.</summary>
    public static string? OfThisProcess => Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } text ? text : null;

    /// <param name="options">Options and their values by turns.</param>
    public static string Text(IReadOnlyList<string> options, IReadOnlyDictionary<string, string> environment) => string.Join(' ',
        options.Chunk(2).Select(o => (Name: o[0], Value: o[^1]))
            .Concat(environment.Select(v => (Name: v.Key, v.Value)))
            .Append((Name: "build", Value: NodeFacts.Build))
            .OrderBy(s => s.Name, StringComparer.Ordinal)
            .Select(s => $"{s.Name}={Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(s.Value)))[..Digits]}"));

    /// <summary>The names of what differs, in order.</summary>
    public static IReadOnlyList<string> Different(string one, string other)
    {
        HashSet<string> ones = [.. one.Split(' ')], others = [.. other.Split(' ')];
        ones.SymmetricExceptWith(others);
        return [.. ones.Select(s => s[..s.IndexOf('=', StringComparison.Ordinal)]).Distinct().Order(StringComparer.Ordinal)];
    }
}
