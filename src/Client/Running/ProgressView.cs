using System.Globalization;
using Experiments.Client.Terminals;
using Experiments.Grains;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace Experiments.Client.Running;

/// <summary>What a running sweep looks like: a live block on a terminal, a plain line every few seconds elsewhere. All of it
/// goes to standard error.</summary>
internal sealed class ProgressView(Terminal terminal, string title)
{
    private static readonly TimeSpan Redraw = TimeSpan.FromMilliseconds(150);
    private static readonly TimeSpan FirstLine = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan LineEvery = TimeSpan.FromSeconds(5);

    private string? _message;

    /// <summary>A line below the block, or a line of its own: what Ctrl-C did.</summary>
    public void Say(string message)
    {
        _message = message;
        if (!terminal.ErrorIsTerminal)
        {
            terminal.Notice(message);
        }
    }

    /// <summary>Shows snapshots until <paramref name="running"/> ends, however it ends.</summary>
    public async Task ShowAsync(Func<RunSnapshot?> snapshot, Task running)
    {
        try
        {
            await (terminal.ErrorIsTerminal ? LiveAsync(snapshot, running) : LinesAsync(snapshot, running));
        }
        catch (IOException)
        {
            // The terminal was closed. The run goes on unseen, or stops in good order by the hang-up that came with it.
            await Task.WhenAny(running);
        }
    }

    /// <summary>One line for a log: <c>868 of 1,400 trials (62%), 3 failed, 345/s, 8.1 s left</c>.</summary>
    public static string Line(RunSnapshot now)
    {
        long finished = now.Done + now.Failed + now.Skipped;
        List<string> parts =
        [
            $"{Format.Count(finished)} of {Format.Count(now.Total, "trial")} ({Share(finished, now.Total)})",
        ];
        if (now.Failed > 0)
        {
            parts.Add($"{Format.Count(now.Failed)} failed");
        }

        if (now.Skipped > 0)
        {
            parts.Add($"{Format.Count(now.Skipped)} skipped");
        }

        if (now.ReferenceHits > 0)
        {
            parts.Add($"{Format.Count(now.ReferenceHits, "reference")} cached");
        }

        // A rate that rounds to nothing says nothing.
        if (now.TrialsPerSecond > 0 && finished > 0)
        {
            parts.Add($"{Format.Number(now.TrialsPerSecond)}/s");
        }

        if (now.Remaining is TimeSpan left && finished < now.Total)
        {
            parts.Add($"{Format.Duration(left)} left");
        }

        return string.Join(", ", parts);
    }

    private async Task LinesAsync(Func<RunSnapshot?> snapshot, Task running)
    {
        TimeSpan wait = FirstLine;
        string? last = null;
        while (await Task.WhenAny(running, Task.Delay(wait, terminal.Clock, CancellationToken.None)) != running)
        {
            if (snapshot() is RunSnapshot now && Line(now) is string line && line != last)
            {
                terminal.Notice(line);
                last = line;
            }

            wait = LineEvery;
        }

        if (snapshot() is RunSnapshot end && Line(end) != last)
        {
            terminal.Notice(Line(end));
        }
    }

    private async Task LiveAsync(Func<RunSnapshot?> snapshot, Task running)
    {
        IAnsiConsole console = Rendering.Console(terminal.Error, terminal, interactive: true);
        await console.Live(new Text(Format.Shown(title))).AutoClear(true).StartAsync(async context =>
        {
            while (!running.IsCompleted)
            {
                context.UpdateTarget(Block(snapshot()));
                await Task.WhenAny(running, Task.Delay(Redraw, terminal.Clock, CancellationToken.None));
            }
        });
        if (snapshot() is RunSnapshot end)
        {
            terminal.Notice(Line(end));
        }
    }

    private Rows Block(RunSnapshot? now)
    {
        List<IRenderable> lines = [new Markup($"[bold]{Markup.Escape(Format.Shown(title))}[/]")];
        if (now is null)
        {
            lines.Add(new Text("starting"));
            return new Rows(lines);
        }

        long finished = now.Done + now.Failed + now.Skipped;
        int width = Math.Clamp(terminal.Width - 45, 10, 50);
        int full = now.Total > 0 ? (int)(width * finished / now.Total) : 0;
        lines.Add(new Markup(string.Create(CultureInfo.InvariantCulture,
            $"[green]{new string('━', full)}[/][grey]{new string('─', width - full)}[/] {Share(finished, now.Total),4}  "
            + $"{Format.Count(finished)} of {Format.Count(now.Total, "trial")}")));
        string failed = now.Failed > 0 ? $"[red]failed {Format.Count(now.Failed)}[/]" : "failed 0";
        string skipped = now.Skipped > 0 ? $"[yellow]skipped {Format.Count(now.Skipped)}[/]" : "skipped 0";
        string left = now.Remaining is TimeSpan remaining ? Format.Duration(remaining) : "?";
        lines.Add(new Markup(
            $"done {Format.Count(now.Done)}  {failed}  {skipped}  cached {Format.Count(now.ReferenceHits)}   "
            + $"{Format.Number(now.TrialsPerSecond)} trials/s   elapsed {Format.Duration(now.Elapsed)}   left {left}"));
        foreach (LaneSnapshot lane in now.Lanes)
        {
            string what = lane.Instance is null
                ? "idle"
                : $"{lane.Instance}  {lane.Kernel ?? ""}  {Format.Duration(lane.Running)}";
            lines.Add(new Markup($"[grey]lane {lane.Lane}[/]  {Markup.Escape(what)}") { Overflow = Overflow.Ellipsis });
        }

        if (now.LeasesLost > 0)
        {
            lines.Add(new Markup($"[yellow]{Format.Count(now.LeasesLost)} leases were taken over by another process[/]"));
        }

        if (_message is not null)
        {
            lines.Add(new Markup($"[yellow]{Markup.Escape(_message)}[/]"));
        }

        return new Rows(lines);
    }

    private static string Share(long finished, long total) =>
        total == 0 ? "100%" : string.Create(CultureInfo.InvariantCulture, $"{Math.Floor(100.0 * finished / total)}%");
}
