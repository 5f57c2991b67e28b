using System.Text;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;

namespace Experiments.Kernels.Tests.Instances;

public sealed class NpyTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("experiments-npy-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void What_is_written_is_read_back()
    {
        double[] values = [1.5, -2, 3e300, 4, 5, double.Epsilon];
        NpyFile.Write<double>(At("m"), values, 2, 3);
        NpyFile file = NpyFile.Open(At("m"));
        Assert.Equal((2, 3, 8), (file.Rows, file.Columns, file.BytesPerNumber));
        Assert.Equal(values, file.ReadAll());
        Assert.Equal([5, double.Epsilon], file.Read(1, 1, 1, 2));
        Assert.Equal(0, (new FileInfo(At("m")).Length - 48) % 64);

        NpyFile.Write<float>(At("f"), [0.1f, 2f], 1, 2);
        Assert.Equal([0.1f, 2], NpyFile.Open(At("f")).ReadAll());
        Assert.Equal(4, NpyFile.Open(At("f")).BytesPerNumber);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Versions_1_to_3_are_read(int version)
    {
        Raw("v", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }", BitConverter.GetBytes(1f).Concat(BitConverter.GetBytes(2f)), version);
        Assert.Equal([1, 2], NpyFile.Open(At("v")).ReadAll());
    }

    [Theory]
    [InlineData("{'descr': '<f8', 'fortran_order': True, 'shape': (1, 2), }", 16, "Fortran order")]
    [InlineData("{'descr': '>f8', 'fortran_order': False, 'shape': (1, 2), }", 16, "big-endian")]
    [InlineData("{'descr': '<i8', 'fortran_order': False, 'shape': (1, 2), }", 16, "type <i8; float32")]
    [InlineData("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", 16, "of 1 dimensions; 2 are needed")]
    [InlineData("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 2), }", 16, "of 3 dimensions")]
    [InlineData("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 2), }", 0, "at least 1")]
    [InlineData("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }", 15, "truncated")]
    [InlineData("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }", 17, "too long")]
    [InlineData("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1, 2), }", 16, "not a plain array")]
    [InlineData("nothing of the kind", 16, "not a plain array")]
    [InlineData("\u001b[31m\n\t of the kind", 16, "not a plain array's: ?[31m??")]
    [InlineData("{'descr': '\u001b[0m', 'fortran_order': False, 'shape': (1, 2), }", 16, "of type ?[0m;")]
    public void A_file_of_another_kind_is_refused_in_one_sentence(string header, int bytes, string reason)
    {
        Raw("bad", header, new byte[bytes], 1);
        InvalidDataException error = Assert.Throws<InvalidDataException>(() => NpyFile.Open(At("bad")));
        Assert.Contains(reason, error.Message);
        Assert.Contains("bad.npy", error.Message);
        Assert.DoesNotContain('\n', error.Message);
    }

    [Theory]
    [InlineData("{\"descr\": \"<f8\", \"fortran_order\": False, \"shape\": (1, 2)}")]
    [InlineData("{'shape': (1L, 2L), 'descr': '=f8', 'fortran_order': False}")]
    public void What_other_writers_than_NumPy_put_in_a_header_is_read(string header)
    {
        Raw("other", header, new byte[16], 1);
        Assert.Equal([0, 0], NpyFile.Open(At("other")).ReadAll());
    }

    [Fact]
    public void X_that_is_there_but_no_file_is_refused_and_not_taken_for_the_identity()
    {
        WriteAll(Problems.Random(1, 6, 3, 1));
        File.Delete(At("x"));
        Directory.CreateDirectory(At("x"));
        Assert.Contains("x.npy is a folder", Assert.Throws<InvalidDataException>(() => NpyFolder.Load(_folder)).Message);
        Assert.Contains("x.npy is a folder", Assert.Throws<InvalidDataException>(
            () => new FilesFamily().Draw(new(4, 3, null, 1, Problems.Set(("folder", _folder))))).Message);
    }

    [Fact]
    public void What_is_no_npy_file_at_all_is_refused()
    {
        File.WriteAllText(At("text"), "1,2\n3,4\n");
        Assert.Contains("not a .npy file", Assert.Throws<InvalidDataException>(() => NpyFile.Open(At("text"))).Message);
        File.WriteAllText(At("empty"), "");
        Assert.Contains("not a .npy file", Assert.Throws<InvalidDataException>(() => NpyFile.Open(At("empty"))).Message);
        File.WriteAllBytes(At("cut"), [0x93, .. "NUMPY"u8, 1, 0, 200, 0, 1, 1]);
        Assert.Contains("truncated", Assert.Throws<InvalidDataException>(() => NpyFile.Open(At("cut"))).Message);
        Assert.Contains("does not exist", Assert.Throws<InvalidDataException>(() => NpyFile.Open(At("gone"))).Message);
        Assert.ThrowsAny<InvalidDataException>(() => NpyFile.Open(_folder));
    }

    [Fact]
    public void NaN_is_refused_with_its_place()
    {
        NpyFile.Write<double>(At("m"), [1, 2, 3, double.NaN], 2, 2);
        Assert.Contains("m.npy[1, 1] is NaN", Assert.Throws<InvalidDataException>(() => NpyFile.Open(At("m")).ReadAll()).Message);
        Assert.Equal([1, 2], NpyFile.Open(At("m")).Read(0, 1, 0, 2));
    }

    [Fact]
    public void A_folder_is_one_gradient_s_inputs()
    {
        AttentionProblem<double> problem = Problems.Random(1, 6, 3, 1);
        WriteAll(problem);
        (AttentionProblem<double> read, int bytes) = NpyFolder.Load(_folder);
        Assert.Equal(8, bytes);
        Assert.Equal(Problems.Run("exact", problem).DX, Problems.Run("exact", read).DX);

        File.Delete(At("y"));
        Assert.Equal([1, 0, 0, 0, 1, 0, 0, 0, 1], NpyFolder.Load(_folder).Problem.Y);
        NpyFile.Write<double>(At("e"), problem.E, 3, 6);
        Assert.Contains("e must be (n, d) = (6, 3)", Assert.Throws<InvalidDataException>(() => NpyFolder.Load(_folder)).Message);
        File.Delete(At("a1"));
        Assert.Contains("a1.npy does not exist", Assert.Throws<InvalidDataException>(() => NpyFolder.Load(_folder)).Message);
        Assert.Contains("not a folder", Assert.Throws<InvalidDataException>(() => NpyFolder.Load(At("a1"))).Message);
    }

    [Fact]
    public void Slices_of_one_file_make_an_instance()
    {
        float[] tokens = [.. Enumerable.Range(0, 40).Select(i => (float)i)];
        NpyFile.Write<float>(At("tokens"), tokens, 10, 4);
        FilesFamily family = new();
        AttentionProblem<double> Draw(int n, int d, string e, string a3 = "tokens[:, 1:3]") => family.Draw(new(n, d, null, 1, Problems.Set(
            ("folder", _folder), ("a1", "tokens"), ("a2", "tokens.npy"), ("a3", a3), ("e", e), ("x", "identity"))));

        AttentionProblem<double> problem = Draw(9, 2, "tokens[1:10, 0:2]", "tokens[0:9, 1:3]");
        Assert.Equal([0, 1, 4, 5], problem.A1[..4]);
        Assert.Equal(problem.A1, problem.A2);
        Assert.Equal([1, 2, 5, 6], problem.A3[..4]);
        Assert.Equal([4, 5, 8, 9], problem.E[..4]);
        Assert.Equal([1, 0, 0, 1], problem.X);
        Assert.Equal([1, 0, 0, 1], problem.Y);

        Assert.Contains("e: tokens[2:11, 0:2] has shape (8, 2), and (n, d) = (9, 2) is needed",
            Assert.Throws<ArgumentException>(() => Draw(9, 2, "tokens[2:11, 0:2]", "tokens[:9, 1:3]")).Message);
        Assert.Contains("is not understood", Assert.Throws<ArgumentException>(() => Draw(9, 2, "tokens[0:9", "tokens[:9, 1:3]")).Message);
        Assert.Contains("(10, 4)", Assert.Throws<ArgumentException>(() => Draw(11, 2, "tokens", "tokens")).Message);
        Assert.Contains("does not exist", Assert.Throws<InvalidDataException>(() => Draw(9, 2, "tokns", "tokens[:9, 1:3]")).Message);
        Assert.Contains("folder: data", Assert.Throws<ArgumentException>(() => family.Draw(new(2, 2, null, 1, Settings.None))).Message);
    }

    [Fact]
    public void A_file_that_changes_is_read_again()
    {
        FilesFamily family = new();
        WriteAll(Problems.Random(1, 6, 3, 1));
        InstanceRequest request = new(4, 3, null, 1, Problems.Set(("folder", _folder)));
        double[] before = family.Draw(request).A1;
        WriteAll(Problems.Random(2, 6, 3, 1));
        File.SetLastWriteTimeUtc(At("a1"), new(2030, 1, 1, 0, 0, 0, DateTimeKind.Utc));
        Assert.NotEqual(before, family.Draw(request).A1);
    }

    private void WriteAll(AttentionProblem<double> problem)
    {
        int n = problem.N, d = problem.D;
        NpyFile.Write<double>(At("a1"), problem.A1, n, d);
        NpyFile.Write<double>(At("a2"), problem.A2, n, d);
        NpyFile.Write<double>(At("a3"), problem.A3, n, d);
        NpyFile.Write<double>(At("e"), problem.E, n, d);
        NpyFile.Write<double>(At("x"), problem.X, d, d);
        NpyFile.Write<double>(At("y"), problem.Y, d, d);
    }

    private void Raw(string name, string header, IEnumerable<byte> body, int version)
    {
        byte[] text = Encoding.ASCII.GetBytes(header + "\n");
        byte[] length = version == 1 ? BitConverter.GetBytes((ushort)text.Length) : BitConverter.GetBytes(text.Length);
        File.WriteAllBytes(At(name), [0x93, .. "NUMPY"u8, (byte)version, 0, .. length, .. text, .. body]);
    }

    private string At(string name) => Path.Combine(_folder, name + ".npy");
}
