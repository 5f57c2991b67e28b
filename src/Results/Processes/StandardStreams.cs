using System.ComponentModel;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Experiments.Results.Processes;

/// <summary>This process's standard output, for a program that speaks over it to another and runs other people's code.</summary>
public static class StandardStreams
{
    private const int Output = 1, Error = 2;

    /// <summary>Takes standard output away from everyone else: what is printed from now on, by native code too, goes to standard error.</summary>
    public static Stream TakeOutput()
    {
        if (OperatingSystem.IsWindows())
        {
            Stream own = Console.OpenStandardOutput();
            Console.SetOut(Console.Error);
            return own;
        }

        nint descriptor = Unix.Duplicate((nint)Output);
        if (descriptor < 0 || Unix.Duplicate(Error, onto: Output) < 0)
        {
            throw new IOException($"Standard output could not be set aside: {new Win32Exception(Marshal.GetLastPInvokeError()).Message}.");
        }

        return new FileStream(new SafeFileHandle(descriptor, ownsHandle: true), FileAccess.Write, bufferSize: 0);
    }
}
