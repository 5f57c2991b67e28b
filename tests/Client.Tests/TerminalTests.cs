using CsCheck;
using Experiments.Client.Terminals;
using Experiments.Results.Sweeps;
using Experiments.Testing;

namespace Experiments.Client.Tests;

public sealed class TerminalTests
{
    [Theory]
    [InlineData("\u001b[2J\u001b]0;owned\a", "\\u001b[2J\\u001b]0;owned\\u0007")]
    [InlineData("\u009b31mred", "\\u009b31mred")]
    [InlineData("exe\u202efdp.sh\u2028\0\u007f", "exe\\u202efdp.sh\\u2028\\u0000\\u007f")]
    [InlineData("größer\tals, 数\n😀", "größer\tals, 数\n😀")]
    public void What_would_steer_a_terminal_is_shown(string text, string shown)
    {
        Assert.Equal(shown, Format.Shown(text));
        foreach (bool person in (bool[])[false, true])
        {
            using StringWriter output = new();
            using Terminal terminal = new() { Out = output, Error = output, OutIsTerminal = person, Width = 200 };
            new TextTable().Left("name", "c" + text).Row("a", text).Write(terminal, text);
            terminal.Notice(text);
            Assert.DoesNotContain(output.ToString(), c => c != '\n' && (char.IsControl(c) || c is '\u202e' or '\u2028') && !(c == '\t' && text.Contains(c)));
        }
    }

    [Theory]
    [InlineData(0.0, "0")]
    [InlineData(1.0, "1.00")]
    [InlineData(12.345, "12.3")]
    [InlineData(123456.0, "123456")]
    [InlineData(0.00012345, "1.23e-04")]
    [InlineData(1234567.0, "1.23e+06")]
    public void Numbers_have_three_digits(double value, string text) => Assert.Equal(text, Format.Number(value));

    [Theory]
    [InlineData(1.5e-9, "1.50 ns")]
    [InlineData(2.5e-5, "25.0 us")]
    [InlineData(0.0123, "12.3 ms")]
    [InlineData(3.21, "3.21 s")]
    [InlineData(4000.0, "1 h 06 min")]
    public void Times_have_their_unit(double seconds, string text) => Assert.Equal(text, Format.Seconds(seconds));

    [Fact]
    public void A_value_reads_back_to_the_same_bits() =>
        Gen.Double.SampleFixed(value => Assert.True(BitConverter.DoubleToInt64Bits(double.Parse(
            Format.Value(value), System.Globalization.CultureInfo.InvariantCulture)) == BitConverter.DoubleToInt64Bits(value)
            || double.IsNaN(value)));

    [Fact]
    public void A_table_on_a_pipe_is_ascii_and_cuts_nothing()
    {
        using StringWriter output = new();
        using Terminal terminal = new() { Out = output, Error = TextWriter.Null };
        string wide = new('x', 300);
        new TextTable().Left("name").Right("n").Row(wide, "1").Row("two\nlines", "22").Write(terminal, "Title");
        string[] lines = output.ToString().TrimEnd('\n').Split('\n');
        Assert.Equal(5, lines.Length);
        Assert.Contains(wide, lines[3], StringComparison.Ordinal);
        Assert.Contains("two\\nlines", lines[4], StringComparison.Ordinal);
        Assert.All(output.ToString(), c => Assert.InRange(c, '\n', '~'));
        Assert.Equal(lines[3].Length, lines[4].Length);
    }

    [Theory]
    [InlineData(24)]
    [InlineData(40)]
    [InlineData(120)]
    public void A_table_on_a_terminal_of_any_width_shows_every_cell(int width)
    {
        using StringWriter output = new();
        using Terminal terminal = new() { Out = output, Error = TextWriter.Null, OutIsTerminal = true, Width = width };
        new TextTable().Right("id").Left("name", "state").Right("trials", "done", "failed", "skipped")
            .Row("87", "quickstart", "interrupted", "100,000", "99,998", "1", "2").Write(terminal);
        foreach (string cell in (string[])["id", "skipped", "87", "quickstart", "interrupted", "100,000", "99,998", "1", "2"])
        {
            Assert.Contains(cell, output.ToString(), StringComparison.Ordinal);
        }

        Assert.DoesNotContain("…", output.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void The_nearest_name_is_found_within_a_few_edits()
    {
        string[] names = ["uniform", "gaussian", "corner", "planted"];
        Assert.Equal("gaussian", NearestName.Of("gausian", names));
        Assert.Equal("corner", NearestName.Of("Conrer", names));
        Assert.Null(NearestName.Of("zebra", names));
        Gen.Select(Gen.String[Gen.Char['a', 'z'], 0, 8], Gen.String[Gen.Char['a', 'z'], 0, 8]).SampleFixed(pair =>
        {
            (string a, string b) = pair;
            Assert.Equal(NearestName.Distance(a, b), NearestName.Distance(b, a));
            Assert.Equal(0, NearestName.Distance(a, a));
            Assert.True(NearestName.Distance(a, b) >= Math.Abs(a.Length - b.Length));
        });
    }

    [Fact]
    public void The_first_signal_asks_and_the_second_insists()
    {
        using Interrupts interrupts = new();
        List<int> heard = [];
        interrupts.Signalled += heard.Add;
        interrupts.Raise();
        Assert.True(interrupts.Finish.IsCancellationRequested);
        Assert.False(interrupts.Now.IsCancellationRequested);
        interrupts.Raise();
        Assert.True(interrupts.Now.IsCancellationRequested);
        Assert.Equal([1, 2], heard);
    }
}
