using System.Globalization;
using System.Text;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>Quantities as sentences for a person have them.</summary>
public static class Describe
{
    private static readonly string[] Units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

    /// <summary>Such as <c>34 GiB</c> or <c>1.5 MiB</c>: three digits at most.</summary>
    public static string Bytes(double bytes)
    {
        int unit = 0;
        while (bytes >= 1024 && unit < Units.Length - 1)
        {
            bytes /= 1024;
            unit++;
        }

        return bytes.ToString(bytes < 10 ? "0.##" : bytes < 100 ? "0.#" : "0", CultureInfo.InvariantCulture) + " " + Units[unit];
    }

    /// <summary>Such as <c>2 min</c>, <c>1.5 s</c> or <c>500 ms</c>.</summary>
    public static string Time(TimeSpan time) =>
        time >= TimeSpan.FromHours(1) && time.TotalHours % 1 == 0 ? Number(time.TotalHours) + " h"
        : time >= TimeSpan.FromMinutes(1) ? Number(time.TotalMinutes) + " min"
        : time >= TimeSpan.FromSeconds(1) ? Number(time.TotalSeconds) + " s"
        : Number(time.TotalMilliseconds) + " ms";

    /// <summary>Such as <c>uniform n=256 d=8 bound=2 repeat=0</c>.</summary>
    public static string Instance(InstanceSpec instance)
    {
        ArgumentNullException.ThrowIfNull(instance);
        StringBuilder text = new();
        text.Append(CultureInfo.InvariantCulture, $"{instance.Family} n={instance.N} d={instance.D}");
        if (instance.Bound is double bound)
        {
            text.Append(CultureInfo.InvariantCulture, $" bound={bound:G4}");
        }

        // Words are folders, files and their contents, but for the two that every family has.
        foreach ((string name, object value) in instance.Settings
            .Where(s => s.Value is not string || s.Key is "scale" or "mask").OrderBy(s => s.Key))
        {
            text.Append(CultureInfo.InvariantCulture, $" {name}={Identity.Text(value)}");
        }

        return text.Append(CultureInfo.InvariantCulture, $" repeat={instance.Repeat}").ToString();
    }

    /// <summary>An exception as a trial's reason: one line.</summary>
    public static string Exception(Exception exception)
    {
        ArgumentNullException.ThrowIfNull(exception);
        string message = exception.Message.ReplaceLineEndings(" ");
        return exception is ArgumentException or InvalidDataException or Kernels.AttentionGradient.KernelFailure
            ? message
            : $"{exception.GetType().Name}: {message}";
    }

    private static string Number(double value) => value.ToString("0.##", CultureInfo.InvariantCulture);
}
