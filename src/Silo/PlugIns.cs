using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Runtime.Loader;
using System.Security.Cryptography;
using Experiments.Grains;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Contract;
using Experiments.Kernels.Instances;
using Experiments.Results.Sweeps;

namespace Experiments.Silo;

/// <summary>One assembly of kernels or instance families that a process loaded at its start.</summary>
/// <param name="File">Its file's full path.</param>
/// <param name="Name">The assembly's name.</param>
/// <param name="Version">The assembly's informational version; its version without one.</param>
/// <param name="Sha256">Of the file, in lower-case hexadecimal.</param>
public sealed record PlugIn(
    string File, string Name, string Version, string Sha256,
    IReadOnlyList<IGradientKernel> Kernels, IReadOnlyList<IInstanceFamily> Families)
{
    /// <summary>As a silo offers it and a sweep needs it.</summary>
    public PlugInIdentity Identity => new(Name, Version, Sha256, [.. Kernels.Select(k => k.Name)], [.. Families.Select(f => f.Name)]);
}

/// <summary>A plug-in cannot be used. The message is one line for a person: the file, what is wrong, what to do.</summary>
public sealed class PlugInException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>Finds and loads plug-ins: at a process' start, never after.</summary>
/// <remarks>
/// Every assembly in a folder that references Experiments.Kernels is one, but for ours. It gets a load context of its own, in which
/// Experiments.Kernels is the running program's and everything else is looked for beside the assembly first: two plug-ins may
/// need two versions of a library. Plug-ins run with all the rights of the process; there is no sandbox.
/// </remarks>
public static class PlugIns
{
    private static readonly Assembly Shared = typeof(IGradientKernel).Assembly;

    /// <summary>All plug-ins of some folders.</summary>
    /// <param name="folders">Paths, joined by the system's path separator (a colon, on Windows a semicolon); null or empty for none.</param>
    /// <exception cref="PlugInException">A folder is not there or holds no plug-in, an assembly cannot be loaded, or two things
    /// have one name.</exception>
    public static IReadOnlyList<PlugIn> Load(string? folders)
    {
        List<PlugIn> found = [];
        foreach (string folder in (folders ?? "").Split(
            Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Distinct())
        {
            if (!Directory.Exists(folder))
            {
                throw new PlugInException(
                    $"The plug-in folder '{folder}' is not there. Name the folder that your assembly is built into, such as "
                    + "bin/Release/net10.0.");
            }

            int before = found.Count;
            foreach (string file in Directory.EnumerateFiles(folder, "*.dll").Order(StringComparer.Ordinal))
            {
                if (IsPlugIn(file) && LoadFile(file) is { } plugIn && plugIn.Kernels.Count + plugIn.Families.Count > 0)
                {
                    found.Add(plugIn);
                }
            }

            if (found.Count == before)
            {
                throw new PlugInException(
                    $"The plug-in folder '{folder}' holds no kernel and no instance family: no assembly in it has a public class that "
                    + "implements IGradientKernel or IInstanceFamily.");
            }
        }

        RefuseClashes(found);
        return found;
    }

    /// <summary>One assembly, whatever its folder; for checks.</summary>
    /// <exception cref="PlugInException">It cannot be loaded.</exception>
    public static PlugIn LoadFile(string file)
    {
        ArgumentException.ThrowIfNullOrEmpty(file);
        string path = Path.GetFullPath(file), name = Path.GetFileName(path);
        try
        {
            byte[] hash = SHA256.HashData(System.IO.File.ReadAllBytes(path));
            Assembly assembly = new Context(path).LoadFromAssemblyPath(path);
            List<IGradientKernel> kernels = [];
            List<IInstanceFamily> families = [];
            foreach (Type type in assembly.GetExportedTypes().OrderBy(t => t.FullName, StringComparer.Ordinal))
            {
                if (type is not { IsClass: true, IsAbstract: false, ContainsGenericParameters: false }
                    || !(typeof(IGradientKernel).IsAssignableFrom(type) || typeof(IInstanceFamily).IsAssignableFrom(type)))
                {
                    continue;
                }

                if (type.GetConstructor(Type.EmptyTypes) is null)
                {
                    throw new PlugInException(
                        $"{name}: {type.Name} has no public constructor without parameters, by which it could be made.");
                }

                object made = Activator.CreateInstance(type)!;
                if (made is IGradientKernel kernel)
                {
                    KernelContract.Names(kernel);
                    kernels.Add(kernel);
                }

                if (made is IInstanceFamily family)
                {
                    FamilyContract.Names(family);
                    families.Add(family);
                }
            }

            string version = assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion
                ?? assembly.GetName().Version?.ToString() ?? "";
            return new PlugIn(path, assembly.GetName().Name ?? name, version, Convert.ToHexStringLower(hash), kernels, families);
        }
        catch (PlugInException)
        {
            throw;
        }
        catch (Exception fault) when (fault is not OutOfMemoryException)
        {
            Exception cause = fault is TargetInvocationException { InnerException: Exception inner } ? inner : fault;
            throw new PlugInException($"{name} cannot be used as a plug-in: {Explain(cause, path)}", fault);
        }
    }

    /// <summary>The built-in kernels and families with those of plug-ins behind them.</summary>
    public static Workbench Workbench(IReadOnlyList<PlugIn> plugIns) => plugIns.Count == 0
        ? Grains.Workbench.BuiltIn
        : new(
            [.. BuiltIn.Kernels, .. plugIns.SelectMany(p => p.Kernels)],
            [.. BuiltIn.Families, .. plugIns.SelectMany(p => p.Families)])
        {
            PlugIns = [.. plugIns.Select(p => p.Identity)],
        };

    private static void RefuseClashes(List<PlugIn> plugIns)
    {
        Dictionary<string, string> kernels = BuiltIn.Kernels.ToDictionary(k => k.Name, _ => "one that is built in");
        Dictionary<string, string> families = BuiltIn.Families.ToDictionary(f => f.Name, _ => "one that is built in");
        foreach (PlugIn plugIn in plugIns)
        {
            string file = Path.GetFileName(plugIn.File);
            foreach (string name in plugIn.Kernels.Select(k => k.Name))
            {
                if (!kernels.TryAdd(name, $"one of {file}"))
                {
                    throw new PlugInException($"{file} brings a kernel '{name}', and there is {kernels[name]} already. Rename it.");
                }
            }

            foreach (string name in plugIn.Families.Select(f => f.Name))
            {
                if (!families.TryAdd(name, $"one of {file}"))
                {
                    throw new PlugInException($"{file} brings a family '{name}', and there is {families[name]} already. Rename it.");
                }
            }
        }
    }

    // Read without loading: a folder of build output also holds libraries, native ones too, and copies of ours.
    private static bool IsPlugIn(string file)
    {
        try
        {
            using FileStream stream = System.IO.File.OpenRead(file);
            using PEReader image = new(stream);
            if (!image.HasMetadata)
            {
                return false;
            }

            MetadataReader metadata = image.GetMetadataReader();
            return metadata.IsAssembly
                && metadata.GetString(metadata.GetAssemblyDefinition().Name) is string name
                && !IsOurs(name)
                && metadata.AssemblyReferences.Any(
                    r => metadata.GetString(metadata.GetAssemblyReference(r).Name) == Shared.GetName().Name);
        }
        catch (BadImageFormatException)
        {
            return false;
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            throw new PlugInException($"{Path.GetFileName(file)} cannot be read: {fault.Message}", fault);
        }
    }

    private static bool IsOurs(string name) => name is "experiments" or "experiments-silo"
        or "Experiments.Kernels" or "Experiments.Results" or "Experiments.Grains";

    private static string Explain(Exception fault, string path)
    {
        string message = fault.Message.ReplaceLineEndings(" ").Trim();
        return fault switch
        {
            FileNotFoundException { FileName: string missing } when missing != path =>
                $"it needs {missing.Split(',')[0]}, which is not beside it. Publish it, or set EnableDynamicLoading in its project.",
            BadImageFormatException => "it is no .NET assembly for this machine.",
            ReflectionTypeLoadException or TypeLoadException or MissingMethodException =>
                $"it was built against another version of Experiments.Kernels than this one "
                + $"({Shared.GetName().Version?.ToString(3)}); build it again. {message}",
            ContractException => message,
            _ => $"{fault.GetType().Name}: {message}",
        };
    }

    private sealed class Context(string path) : AssemblyLoadContext(Path.GetFileNameWithoutExtension(path))
    {
        private readonly AssemblyDependencyResolver _resolver = new(path);

        protected override Assembly? Load(AssemblyName assemblyName)
        {
            if (assemblyName.Name == Shared.GetName().Name)
            {
                return Shared;
            }

            return _resolver.ResolveAssemblyToPath(assemblyName) is string found ? LoadFromAssemblyPath(found) : null;
        }

        protected override nint LoadUnmanagedDll(string unmanagedDllName) =>
            _resolver.ResolveUnmanagedDllToPath(unmanagedDllName) is string found ? LoadUnmanagedDllFromPath(found) : 0;
    }
}
