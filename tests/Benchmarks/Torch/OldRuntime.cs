using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace Experiments.Torch;

/// <summary>Lets TorchSharp 0.107.0 load where the C++ runtime is older than gcc 13's, as on Debian 12.</summary>
/// <remarks>
/// Its wrapper libLibTorchSharp.so was built with gcc 13 and asks for version GLIBCXX_3.4.32, for one function only:
/// std::ios_base_library_init(), which initialises cout and its kin. An older runtime has those initialised by whoever
/// includes &lt;iostream&gt;, as libtorch itself does, so nothing need be called. In the copy beside this program the version is
/// marked weak, and the one import is renamed to sched_yield, which takes no argument and does no harm.
/// Source of the layout: the System V ABI, chapters 4 and 5, and the Linux Standard Base, 10.7 (symbol versioning).
/// </remarks>
internal static class OldRuntime
{
    private const string Version = "GLIBCXX_3.4.32", Import = "_ZSt21ios_base_library_initv", Harmless = "sched_yield";

    private const uint SectionDynamicSymbols = 11, SectionVersions = 0x6fffffff, SectionVersionNeeds = 0x6ffffffe;

    /// <summary>Patches the wrapper if this machine needs it, and proves that a product can be computed.</summary>
    /// <returns>The exit code: 0, or 1 after one line on standard error.</returns>
    public static int Prepare()
    {
        string file = Path.Combine(AppContext.BaseDirectory, "libLibTorchSharp.so");
        try
        {
            if (!RuntimeHas(Version))
            {
                byte[] bytes = File.ReadAllBytes(file);
                if (Patch(bytes))
                {
                    File.WriteAllBytes(file, bytes);
                    Console.WriteLine($"The C++ runtime here has no {Version}; the copy of libLibTorchSharp.so beside the program asks for it no more.");
                }
            }

            Console.WriteLine($"torch works: {TorchRivals.Prove()}.");
            return 0;
        }
        catch (Exception fault) when (fault is IOException or InvalidDataException or TypeInitializationException
            or DllNotFoundException or NotSupportedException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine($"torch does not work here: {fault.GetBaseException().Message}");
            return 1;
        }
    }

    private static bool RuntimeHas(string version) =>
        NativeLibrary.TryLoad("libstdc++.so.6", out _) && File.ReadLines("/proc/self/maps")
            .Select(line => line[(line.LastIndexOf(' ') + 1)..])
            .FirstOrDefault(path => Path.GetFileName(path).StartsWith("libstdc++.so", StringComparison.Ordinal)) is string runtime
        && File.ReadAllBytes(runtime).AsSpan().IndexOf(Encoding.ASCII.GetBytes(version + "\0")) >= 0;

    /// <summary>Changes a 64-bit little-endian ELF library in place.</summary>
    /// <returns>False if it was changed already.</returns>
    private static bool Patch(Span<byte> file)
    {
        long sections = BinaryPrimitives.ReadInt64LittleEndian(file[0x28..]);
        int entry = BinaryPrimitives.ReadUInt16LittleEndian(file[0x3a..]), count = BinaryPrimitives.ReadUInt16LittleEndian(file[0x3c..]);
        int symbols = 0, symbolsEnd = 0, names = 0, versions = 0, needs = 0;
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> header = file.Slice(checked((int)sections) + (i * entry), entry);
            int offset = checked((int)BinaryPrimitives.ReadInt64LittleEndian(header[0x18..]));
            switch (BinaryPrimitives.ReadUInt32LittleEndian(header[4..]))
            {
                case SectionDynamicSymbols:
                    symbols = offset;
                    symbolsEnd = offset + checked((int)BinaryPrimitives.ReadInt64LittleEndian(header[0x20..]));
                    int linked = checked((int)sections) + (BinaryPrimitives.ReadInt32LittleEndian(header[0x28..]) * entry);
                    names = checked((int)BinaryPrimitives.ReadInt64LittleEndian(file[(linked + 0x18)..]));
                    break;
                case SectionVersions:
                    versions = offset;
                    break;
                case SectionVersionNeeds:
                    needs = offset;
                    break;
            }
        }

        if (symbols == 0 || versions == 0 || needs == 0)
        {
            throw new InvalidDataException("libLibTorchSharp.so has no dynamic symbols with versions; another TorchSharp than 0.107.0?");
        }

        if (Find(file, symbols, symbolsEnd, names, Import) is not int symbol)
        {
            return Find(file, symbols, symbolsEnd, names, Harmless) is null
                ? throw new InvalidDataException($"libLibTorchSharp.so does not import {Import}; another TorchSharp than 0.107.0?")
                : false;
        }

        int name = BinaryPrimitives.ReadInt32LittleEndian(file[(symbols + (symbol * 24))..]);
        for (int i = symbols; i < symbolsEnd; i += 24)
        {
            // Linkers let a name end inside a longer one; overwriting that would rename two.
            int other = BinaryPrimitives.ReadInt32LittleEndian(file[i..]);
            if (other > name && other < name + Import.Length)
            {
                throw new InvalidDataException($"{Import} shares its name's bytes with another symbol of libLibTorchSharp.so.");
            }
        }

        Encoding.ASCII.GetBytes(Harmless + "\0").CopyTo(file[(names + name)..]);

        // 1 is "any version": sched_yield is the C library's, not the C++ runtime's.
        BinaryPrimitives.WriteUInt16LittleEndian(file[(versions + (2 * symbol))..], 1);
        MarkWeak(file, needs, names);
        return true;
    }

    private static int? Find(ReadOnlySpan<byte> file, int symbols, int symbolsEnd, int names, string sought)
    {
        for (int i = symbols; i < symbolsEnd; i += 24)
        {
            if (Is(file, names + BinaryPrimitives.ReadInt32LittleEndian(file[i..]), sought))
            {
                return (i - symbols) / 24;
            }
        }

        return null;
    }

    private static void MarkWeak(Span<byte> file, int need, int names)
    {
        const ushort Weak = 2;
        for (int next = -1; next != 0; need += next)
        {
            int version = need + BinaryPrimitives.ReadInt32LittleEndian(file[(need + 8)..]);
            next = BinaryPrimitives.ReadInt32LittleEndian(file[(need + 12)..]);
            for (int step = -1; step != 0; version += step)
            {
                step = BinaryPrimitives.ReadInt32LittleEndian(file[(version + 12)..]);
                if (Is(file, names + BinaryPrimitives.ReadInt32LittleEndian(file[(version + 8)..]), Version))
                {
                    ushort flags = BinaryPrimitives.ReadUInt16LittleEndian(file[(version + 4)..]);
                    BinaryPrimitives.WriteUInt16LittleEndian(file[(version + 4)..], (ushort)(flags | Weak));
                }
            }
        }
    }

    private static bool Is(ReadOnlySpan<byte> file, int at, string text) =>
        file[at..].StartsWith(Encoding.ASCII.GetBytes(text + "\0"));
}
