using System.Collections.Concurrent;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Experiments.Grains.Running;
using Experiments.Kernels.Instances;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Tests;

/// <summary>Files that sweeps carry, on the disk of a machine that does not see them where they were submitted.</summary>
public sealed class FileCacheTests : IDisposable
{
    private const int Rows = 512;
    private readonly string _folder = Directory.CreateTempSubdirectory("experiments-files-").FullName;
    private readonly Source _source = new();

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private string Cached => Path.Combine(_folder, "cache", "files");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void What_lies_where_it_was_submitted_is_read_there_and_nothing_is_fetched()
    {
        (InstanceSpec instance, byte[][] bytes) = Instance(1);
        Directory.CreateDirectory(Path.Combine(_folder, "data"));
        File.WriteAllBytes(Path.Combine(_folder, "data", "m1.npy"), bytes[0]);
        using FileCache cache = Cache();
        using LocatedFiles located = cache.Locate(instance, Cancellation);
        Assert.Empty(located.Paths);
        Assert.Equal(0, _source.Fetched);
        Assert.False(Directory.Exists(Cached));
    }

    [Fact]
    public void Where_the_disk_is_full_what_nobody_reads_goes_and_room_is_waited_for()
    {
        Assert.SkipUnless(File.Exists("/dev/full"), "A device that is always full is needed.");
        (InstanceSpec first, _) = Instance(1);
        (InstanceSpec second, byte[][] bytes) = Instance(2);
        using FileCache cache = Cache();
        cache.Locate(first, Cancellation).Dispose();
        (_source.Fault, _source.FaultEndsAfter) = (Full(), 2);
        using LocatedFiles located = cache.Locate(second, Cancellation);
        Assert.Equal(bytes[0], File.ReadAllBytes(Assert.Single(located.Paths).Value));
        Assert.Equal(3, _source.Asked);
        Assert.Equal([Name(bytes[0])], Names());
    }

    [Fact]
    public void A_disk_that_stays_full_is_waited_for_once_and_again_after_something_could_be_written()
    {
        Assert.SkipUnless(File.Exists("/dev/full"), "A device that is always full is needed.");
        (InstanceSpec instance, _) = Instance(1);
        using FileCache cache = new(new FileCacheOptions(Cached, 1 << 20) { WaitForRoom = TimeSpan.FromMilliseconds(1) }, _source, TimeProvider.System);
        _source.Fault = Full();
        Assert.Contains("make room", Assert.Throws<InvalidDataException>(() => cache.Locate(instance, Cancellation)).Message, StringComparison.Ordinal);
        int asked = _source.Asked;
        Assert.InRange(asked, 1, 2);
        Assert.Throws<InvalidDataException>(() => cache.Locate(instance, Cancellation));
        Assert.Equal(asked + 1, _source.Asked);
        Assert.Empty(Names());

        _source.Fault = null;
        cache.Locate(instance, Cancellation).Dispose();
        Assert.Single(Names());
    }

    [Fact]
    public void What_is_not_there_or_is_another_file_there_is_fetched_once_and_read_as_it_was_submitted()
    {
        (InstanceSpec instance, byte[][] bytes) = Instance(1);
        (InstanceSpec both, byte[][] two) = Instance(1, 2);
        Directory.CreateDirectory(Path.Combine(_folder, "data"));
        File.WriteAllBytes(Path.Combine(_folder, "data", "m1.npy"), Npy(7));
        using FileCache cache = Cache();
        for (int i = 0; i < 3; i++)
        {
            using LocatedFiles located = cache.Locate(instance, Cancellation);
            Assert.Equal(bytes[0], File.ReadAllBytes(Assert.Single(located.Paths).Value));
        }

        Assert.Equal(1, _source.Fetched);
        using (LocatedFiles located = cache.Locate(both, Cancellation))
        {
            Assert.Equal(two.Select(Name).Order(), located.Paths.Values.Select(NameOf).Order());
        }

        Assert.Equal(2, _source.Fetched);

        // By another process, later.
        using FileCache other = Cache();
        other.Locate(both, Cancellation).Dispose();
        Assert.Equal(2, _source.Fetched);
        Assert.Equal(two.Select(Name).Order(), Names());
        if (!OperatingSystem.IsWindows())
        {
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(Cached));
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(Directory.GetFiles(Cached)[0]));
        }
    }

    [Fact]
    public void An_instance_of_files_that_are_gone_gives_the_bits_that_it_gave_where_they_were()
    {
        string data = Path.Combine(_folder, "data");
        Directory.CreateDirectory(data);
        foreach ((string name, int seed) in new[] { ("a1", 1), ("a2", 2), ("a3", 3), ("e", 4) })
        {
            byte[] bytes = Npy(seed);
            File.WriteAllBytes(Path.Combine(data, name + ".npy"), bytes);
            _source.Add(bytes);
        }

        Catalog catalog = BuiltInCatalog.Create();
        SweepSpec spec = SweepFile.Parse(
            "{name: mine, seed: 1, instances: {family: files, folder: data, n: 8, d: 2}, kernels: [{kernel: exact}], measure: {rounds: 1, min_time: 0s}}",
            "mine.yaml", _folder, catalog);
        Assert.Equal(4, spec.Files.Count);
        SweepPlan plan = new(1, spec.Measure, spec.Limits, new SweepExpansion(spec, catalog).At);
        TrialOutcome before = Assert.Single(Run());
        Directory.Delete(data, recursive: true);
        TrialOutcome after = Assert.Single(Run());
        Assert.Equal((TrialStatus.Done, TrialStatus.Done), (before.Status, after.Status));
        Assert.Equal(before.Digest, after.Digest);
        Assert.Equal(4, _source.Fetched);

        // Nobody has them, and the reason calls them what the sweep does.
        Directory.Delete(Cached, recursive: true);
        _source.Clear();
        TrialOutcome gone = Assert.Single(Run());
        Assert.Equal(TrialStatus.Failed, gone.Status);
        Assert.Contains($"{Path.Combine(data, "a1.npy")} does not exist", gone.Reason, StringComparison.Ordinal);

        IReadOnlyList<TrialOutcome> Run()
        {
            using FileCache cache = Cache();
            return TestWorkbench.Run(Workbench.BuiltIn, plan, files: cache).Outcomes;
        }
    }

    /// <summary>The moment between the look and the reading, and every reading that is under way when somebody saves.</summary>
    [Fact]
    public void A_file_that_is_saved_over_just_when_it_is_to_be_read_is_fetched_and_never_computed_with()
    {
        string data = Path.Combine(_folder, "data");
        Directory.CreateDirectory(data);
        (InstanceSpec instance, byte[][] bytes) = Instance(1);
        string path = Path.Combine(data, "m1.npy");
        File.WriteAllBytes(path, bytes[0]);
        SweepPlan plan = new(
            1, new Measure { Rounds = 1, MinTime = TimeSpan.Zero }, new Limits { MemoryBytes = 1L << 30 },
            i => new InstancePlan(i, instance, [TestWorkbench.Trial("exact")]));
        using FileCache cache = Cache();
        TrialOutcome before = Assert.Single(TestWorkbench.Run(Workbench.BuiltIn, plan, files: cache).Outcomes);
        Assert.Equal(0, _source.Fetched);
        TrialOutcome after = Assert.Single(TestWorkbench.Run(
            Workbench.BuiltIn, plan, files: new Meddler(cache, () => File.WriteAllBytes(path, Npy(9)))).Outcomes);
        Assert.Equal((TrialStatus.Done, before.Digest), (after.Status, after.Digest));
        Assert.Equal(1, _source.Fetched);
    }

    [Fact]
    public void A_number_that_cannot_be_used_is_told_with_the_files_own_name()
    {
        byte[] bytes = Npy(1);
        BitConverter.TryWriteBytes(bytes.AsSpan(^8), double.NaN);
        InstanceSpec instance = InstanceOf((1, bytes));
        _source.Add(bytes);
        SweepPlan plan = new(
            1, new Measure { Rounds = 1, MinTime = TimeSpan.Zero }, new Limits { MemoryBytes = 1L << 30 },
            i => new InstancePlan(i, instance, [TestWorkbench.Trial("exact")]));
        using FileCache cache = Cache();
        TrialOutcome outcome = Assert.Single(TestWorkbench.Run(Workbench.BuiltIn, plan, files: cache).Outcomes);
        Assert.Contains(Path.Combine(_folder, "data", "m1.npy") + "[", outcome.Reason, StringComparison.Ordinal);
        Assert.DoesNotContain("cache", outcome.Reason, StringComparison.Ordinal);
    }

    /// <summary>One bit, a piece that is missing, and bytes too many: none of it is ever taken for the file.</summary>
    [Theory]
    [InlineData("changed")]
    [InlineData("missing")]
    [InlineData("longer")]
    public void A_copy_in_the_store_that_is_not_the_file_is_refused_and_nothing_of_it_stays(string how)
    {
        (InstanceSpec instance, byte[][] bytes) = Instance(1);
        _source.Bend = piece => how switch
        {
            "changed" => [.. piece[..^1], (byte)(piece[^1] ^ 1)],
            "missing" => null,
            _ => [.. piece, 0],
        };
        using FileCache cache = Cache();
        InvalidDataException refused = Assert.Throws<InvalidDataException>(() => cache.Locate(instance, Cancellation));
        Assert.Contains("m1.npy is not what was submitted", refused.Message, StringComparison.Ordinal);
        Assert.Empty(Names());
        _source.Bend = null;
        using LocatedFiles located = cache.Locate(instance, Cancellation);
        Assert.Equal(bytes[0], File.ReadAllBytes(located.Paths.Values.Single()));
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(100)]
    [InlineData(0)]
    public void A_file_that_was_damaged_in_the_cache_is_fetched_again(int at)
    {
        (InstanceSpec instance, byte[][] bytes) = Instance(1);
        using (FileCache cache = Cache())
        {
            cache.Locate(instance, Cancellation).Dispose();
        }

        string path = Assert.Single(Directory.GetFiles(Cached));
        byte[] damaged = at < 0 ? bytes[0][..^1] : [.. bytes[0]];
        if (at >= 0)
        {
            damaged[at] ^= 4;
        }

        // Some time ago: within one tick of the file system's clock the two are one file to whoever looks at lengths and times.
        File.WriteAllBytes(path, damaged);
        File.SetLastWriteTimeUtc(path, new DateTime(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc));
        using FileCache again = Cache();
        using LocatedFiles located = again.Locate(instance, Cancellation);
        Assert.Equal(bytes[0], File.ReadAllBytes(located.Paths.Values.Single()));
        Assert.Equal(2, _source.Fetched);
        Assert.Equal([Name(bytes[0])], Names());
    }

    [Fact]
    public void What_was_used_longest_ago_goes_first_and_what_is_being_read_stays()
    {
        (InstanceSpec first, byte[][] one) = Instance(1);
        (InstanceSpec second, byte[][] two) = Instance(2);
        (InstanceSpec third, byte[][] three) = Instance(3);
        (InstanceSpec fourth, byte[][] four) = Instance(4);
        Clock clock = new();
        using FileCache cache = new(new FileCacheOptions(Cached, (2 * one[0].Length) + 10), _source, clock);
        Use(first);
        Use(second);
        Use(first);
        Use(third);
        Assert.Equal(new[] { one[0], three[0] }.Select(Name).Order(), Names());

        // Being read, it stays, though it is the one used longest ago; and goes once it is not.
        using (cache.Locate(first, Cancellation))
        {
            Use(third);
            Use(fourth);
            Assert.Equal(new[] { one[0], four[0] }.Select(Name).Order(), Names());
            using (cache.Locate(fourth, Cancellation))
            {
                // More than there may be, for as long as all of it is being read.
                Use(second);
                Assert.Equal(3, Names().Count);
            }
        }

        Use(third);
        Assert.Equal(2, Names().Count);
        Assert.Contains(Name(three[0]), Names());

        void Use(InstanceSpec instance)
        {
            clock.Now += TimeSpan.FromMinutes(1);
            cache.Locate(instance, Cancellation).Dispose();
        }
    }

    [Fact]
    public void What_a_process_that_died_was_writing_is_removed_and_what_a_living_one_writes_is_not()
    {
        (InstanceSpec instance, byte[][] bytes) = Instance(1);
        Directory.CreateDirectory(Cached);
        string dead = Path.Combine(Cached, $"{Name(bytes[0])}.{Guid.NewGuid():N}.part");
        string living = Path.Combine(Cached, $"{Name(bytes[0])}.{Guid.NewGuid():N}.part");
        File.WriteAllText(dead, "half");
        File.SetLastWriteTimeUtc(dead, new DateTime(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc));
        string other = Path.Combine(Cached, "notes.txt");
        File.WriteAllText(other, "somebody's own");
        using FileCache cache = Cache();
        using (FileStream held = new(living, FileMode.CreateNew, FileAccess.Write, FileShare.Delete))
        {
            File.SetLastWriteTimeUtc(living, new DateTime(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc));
            cache.Locate(instance, Cancellation).Dispose();
        }

        Assert.Equal(new[] { Name(bytes[0]), Name(bytes[0]) + ".part", "notes.txt" }.Order(), Names());
        Assert.True(File.Exists(living));
    }

    [Fact]
    public void What_can_never_fit_and_a_folder_that_cannot_be_written_are_told_with_what_to_do()
    {
        (InstanceSpec both, byte[][] bytes) = Instance(1, 2);
        using FileCache small = new(new FileCacheOptions(Cached, bytes[0].Length + 10), _source, TimeProvider.System);
        Assert.Contains(
            "raise EXPERIMENTS_FILES_CACHE_SIZE", Assert.Throws<InvalidDataException>(() => small.Locate(both, Cancellation)).Message, StringComparison.Ordinal);
        Assert.Equal(0, _source.Fetched);
        string file = Path.Combine(_folder, "file");
        File.WriteAllText(file, "");
        using FileCache nowhere = new(new FileCacheOptions(Path.Combine(file, "cache"), 1 << 20), _source, TimeProvider.System);
        Assert.Contains(
            "name another folder in EXPERIMENTS_FILES_CACHE", Assert.Throws<InvalidDataException>(() => nowhere.Locate(both, Cancellation)).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void A_store_that_is_away_is_no_fault_of_the_instance()
    {
        (InstanceSpec instance, _) = Instance(1);
        _source.Fault = new StoreUnavailableException("away");
        SweepPlan plan = new(
            1, new Measure(), new Limits { MemoryBytes = 1L << 30 }, i => new InstancePlan(i, instance, [TestWorkbench.Trial("exact")]));
        using FileCache cache = Cache();
        Assert.Throws<StoreUnavailableException>(() => TestWorkbench.Run(Workbench.BuiltIn, plan, files: cache));
    }

    [Fact]
    public void Whoever_is_cancelled_while_another_fetches_waits_no_longer()
    {
        (InstanceSpec instance, _) = Instance(1);
        using ManualResetEventSlim fetching = new();
        using ManualResetEventSlim go = new();
        _source.Bend = piece =>
        {
            fetching.Set();
            go.Wait(Cancellation);
            return piece;
        };
        using FileCache cache = Cache();
        Thread first = new(() => cache.Locate(instance, Cancellation).Dispose());
        first.Start();
        fetching.Wait(Cancellation);
        using CancellationTokenSource lost = new(50);
        Assert.ThrowsAny<OperationCanceledException>(() => cache.Locate(instance, lost.Token));
        go.Set();
        first.Join();
        Assert.Equal(1, _source.Fetched);
    }

    /// <summary>Two processes' caches in one folder with room for three of eight files, and eight lanes that want any two of them: what is located is there,
    /// whole, for as long as it is held.</summary>
    [Fact]
    public void Many_lanes_of_two_processes_with_too_little_room_each_read_what_they_asked_for()
    {
        byte[][] files = [.. Enumerable.Range(1, 8).Select(seed => Instance(seed).Files[0])];
        using FileCache one = new(new FileCacheOptions(Cached, (3 * files[0].Length) + 10), _source, TimeProvider.System);
        using FileCache two = new(new FileCacheOptions(Cached, (3 * files[0].Length) + 10), _source, TimeProvider.System);
        ConcurrentBag<string> wrong = [];
        Parallel.For(0, 8, new ParallelOptions { MaxDegreeOfParallelism = 8 }, lane =>
        {
            Random random = new(lane);
            for (int i = 0; i < 150; i++)
            {
                int a = random.Next(1, 9), b = random.Next(1, 9);
                InstanceSpec instance = a == b ? InstanceOf((a, files[a - 1])) : InstanceOf((a, files[a - 1]), (b, files[b - 1]));
                using LocatedFiles located = (lane % 2 == 0 ? one : two).Locate(instance, Cancellation);
                foreach ((string content, string path) in located.Paths)
                {
                    if (!File.Exists(path) || Name(File.ReadAllBytes(path))[..32] != content)
                    {
                        wrong.Add($"lane {lane}, {i}: {path}");
                    }
                }
            }
        });
        Assert.Empty(wrong);
        Assert.DoesNotContain(Names(), n => n.EndsWith(".part", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("/var/cache/mine", "/root", "/var/cache/mine/experiments/files")]
    [InlineData(null, "/home/me", "/home/me/.cache/experiments/files")]
    [InlineData("relative", "/home/me", "/home/me/.cache/experiments/files")]
    public void The_cache_lies_where_caches_lie(string? cache, string home, string folder) =>
        Assert.Equal(folder, FileCacheOptions.Of(name => name switch { "XDG_CACHE_HOME" => cache, "HOME" => home, _ => null }).Folder);

    [Fact]
    public void A_file_that_an_axis_names_whole_is_fetched_as_those_are_that_matrices_are_parts_of()
    {
        byte[] formula = Encoding.ASCII.GetBytes("p cnf 2 1\n1 2 0\n");
        _source.Add(formula);
        InstanceSpec instance = new(
            "sat", 8, 2, null, 0, 1,
            new Dictionary<string, object>
            {
                ["folder"] = Path.Combine(_folder, "data"), ["formula"] = "sub/f.cnf", ["content_formula"] = Name(formula)[..32], ["lambda"] = 1.0,
            },
            new Dictionary<string, object>());
        string submitted = Path.Combine(_folder, "data", "sub", "f.cnf");
        using FileCache cache = Cache();
        using (LocatedFiles located = cache.Locate(instance, Cancellation))
        {
            (string content, string path) = Assert.Single(located.Paths);
            Assert.Equal((string)instance.Settings["content_formula"], content);
            Assert.Equal(formula, File.ReadAllBytes(path));
            Assert.Equal($"{submitted} is wrong", located.Named($"{path} is wrong"));
            SatFamily family = new();
            Assert.Equal(8, family.Draw(BuiltInCatalog.RequestOf(instance) with { Located = located.Paths }).N);
            Assert.Throws<InvalidDataException>(() => family.Draw(BuiltInCatalog.RequestOf(instance)));
        }

        Directory.CreateDirectory(Path.GetDirectoryName(submitted)!);
        File.WriteAllBytes(submitted, formula);
        using LocatedFiles there = cache.Locate(instance, Cancellation);
        Assert.Empty(there.Paths);
    }

    /// <summary>Of one that looks as it did, length and time and all, only its bytes tell.</summary>
    [Fact]
    public void A_file_that_was_saved_over_fails_the_trials_that_are_of_it_and_not_the_sweep()
    {
        string path = Path.Combine(_folder, "f.cnf");
        File.WriteAllText(path, "p cnf 2 1\n1 2 0\n");
        DateTime written = File.GetLastWriteTimeUtc(path);
        SweepSpec spec = SweepFile.Parse(
            "name: f\ninstances: {family: sat, formula: f.cnf, n: 8, d: 2}\nkernels: {kernel: exact}\nmeasure: {rounds: 1, min_time: 0s, max_noise: 0}\n",
            "f.yaml", _folder, BuiltInCatalog.Create());
        File.WriteAllText(path, "p cnf 2 1\n1 1 0\n");
        File.SetLastWriteTimeUtc(path, written);

        TrialOutcome outcome = Assert.Single(TestWorkbench.Run(Workbench.BuiltIn, SweepPlan.Of(1, spec.ToJson(), BuiltInCatalog.Create())).Outcomes);
        Assert.Equal(TrialStatus.Failed, outcome.Status);
        Assert.Contains($"{path} has changed since the sweep was made", outcome.Reason, StringComparison.Ordinal);
    }

    private FileCache Cache() => new(new FileCacheOptions(Cached, 1 << 20), _source, TimeProvider.System);

    /// <summary>An instance whose matrices are files m1, m2, … of these seeds, all of them in the store.</summary>
    private (InstanceSpec Instance, byte[][] Files) Instance(params int[] seeds)
    {
        byte[][] files = [.. seeds.Select(Npy)];
        foreach (byte[] file in files)
        {
            _source.Add(file);
        }

        return (InstanceOf([.. seeds.Zip(files)]), files);
    }

    /// <summary>What the runtime makes of a device that is full, not what we think it makes.</summary>
    private static IOException Full() => Assert.Throws<IOException>(() => File.WriteAllBytes("/dev/full", [1]));

    private InstanceSpec InstanceOf(params (int Seed, byte[] Bytes)[] files)
    {
        Dictionary<string, object> settings = new() { ["folder"] = Path.Combine(_folder, "data"), ["x"] = "identity", ["y"] = "identity" };
        string[] matrices = ["a1", "a2", "a3", "e"];
        for (int i = 0; i < matrices.Length; i++)
        {
            (int seed, byte[] bytes) = files[Math.Min(i, files.Length - 1)];
            settings[matrices[i]] = string.Create(CultureInfo.InvariantCulture, $"m{seed}[{Rows - 8}:{Rows}, 0:2]");
            settings["content_" + matrices[i]] = Name(bytes)[..32];
        }

        return new InstanceSpec("files", 8, 2, null, 0, 1, settings, new Dictionary<string, object>());
    }

    private List<string> Names() => Directory.Exists(Cached) ? [.. Directory.GetFiles(Cached).Select(NameOf).Order()] : [];

    /// <summary>Without what makes the name one of its own.</summary>
    private static string NameOf(string path)
    {
        string[] words = Path.GetFileName(path).Split('.');
        return words[0].Length < 64 ? Path.GetFileName(path) : string.Join('.', words.Where((_, i) => i != 1));
    }

    private static string Name(byte[] bytes) => Convert.ToHexStringLower(SHA256.HashData(bytes));

    private static byte[] Npy(int seed)
    {
        Random random = new(seed);
        string header = $"{{'descr': '<f8', 'fortran_order': False, 'shape': ({Rows}, 2), }}".PadRight(117) + "\n";
        double[] values = [.. Enumerable.Range(0, Rows * 2).Select(_ => random.NextDouble() - 0.5)];
        return [0x93, .. "NUMPY"u8, 1, 0, (byte)header.Length, 0, .. Encoding.ASCII.GetBytes(header), .. MemoryMarshal.AsBytes<double>(values)];
    }

    private sealed class Clock : TimeProvider
    {
        public DateTimeOffset Now { get; set; } = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

        public override DateTimeOffset GetUtcNow() => Now;
    }

    private sealed class Meddler(IFileLibrary files, Action once) : IFileLibrary
    {
        private Action? _once = once;

        public LocatedFiles Locate(InstanceSpec instance, CancellationToken cancellation)
        {
            LocatedFiles located = files.Locate(instance, cancellation);
            Interlocked.Exchange(ref _once, null)?.Invoke();
            return located;
        }
    }

    private sealed class Source : IFileSource
    {
        private readonly ConcurrentDictionary<Guid, (StoredFile File, byte[] Bytes)> _files = new();
        private int _fetched;

        /// <summary>How many files were asked for, by their first pieces.</summary>
        public int Fetched => Volatile.Read(ref _fetched);

        public Func<byte[], byte[]?>? Bend { get; set; }

        public Exception? Fault { get; set; }

        /// <summary>How often a piece was asked for, in vain or not.</summary>
        public int Asked { get; private set; }

        /// <summary>After how many it ends.</summary>
        public int FaultEndsAfter { get; set; } = int.MaxValue;

        public void Add(byte[] bytes)
        {
            StoredFile file = new(Name(bytes), bytes.Length);
            _files[file.Content] = (file, bytes);
        }

        public void Clear() => _files.Clear();

        public Task<StoredFile?> FindAsync(Guid content, CancellationToken cancellation) =>
            Task.FromResult(_files.TryGetValue(content, out (StoredFile File, byte[] Bytes) found) ? found.File : null);

        public Task<byte[]?> FindPieceAsync(Guid content, int number, CancellationToken cancellation)
        {
            Asked++;
            if (Fault is not null && Asked <= FaultEndsAfter)
            {
                throw Fault;
            }

            Assert.Equal(0, number);
            Interlocked.Increment(ref _fetched);
            byte[] bytes = _files[content].Bytes;
            return Task.FromResult(Bend is null ? bytes : Bend(bytes));
        }
    }
}
