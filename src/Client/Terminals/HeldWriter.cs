using System.Text;

namespace Experiments.Client.Terminals;

/// <summary>Holds what is written back until it is known to be whole, or too much to hold: a statement that fails at its third row prints
/// nothing, rather than two rows that pass for the answer.</summary>
/// <remarks>A few million characters are most answers. A longer one is let through as it comes, so that <c>query … | head</c> ends early and no
/// memory is filled; should it fail later, JSON is left open on purpose: closed, it would read as a whole answer.</remarks>
internal sealed class HeldWriter(TextWriter output, int most = 4 << 20) : TextWriter
{
    private StringBuilder? _held = new();

    /// <summary>Whether some of it is out already.</summary>
    public bool Released => _held is null;

    public override Encoding Encoding => output.Encoding;

    public override void Write(char value) => Write([value]);

    public override void Write(string? value) => Write(value.AsSpan());

    public override void Write(char[] buffer, int index, int count) => Write(buffer.AsSpan(index, count));

    public override void Write(ReadOnlySpan<char> buffer)
    {
        if (_held is not null && _held.Length + buffer.Length <= most)
        {
            _held.Append(buffer);
            return;
        }

        Release();
        output.Write(buffer);
    }

    public override void Flush()
    {
        if (Released)
        {
            output.Flush();
        }
    }

    // What the base class does instead is a task of the thread pool for each.
    public override Task WriteAsync(string? value) => WriteAsync(value.AsMemory());

    public override Task WriteAsync(ReadOnlyMemory<char> buffer, CancellationToken cancellationToken = default)
    {
        Write(buffer.Span);
        return Task.CompletedTask;
    }

    public override Task WriteLineAsync(string? value) => WriteAsync(value + NewLine);

    public override Task FlushAsync() => Released ? output.FlushAsync() : Task.CompletedTask;

    /// <summary>Lets all through: it is whole.</summary>
    public void Release()
    {
        if (_held is StringBuilder held)
        {
            _held = null;
            foreach (ReadOnlyMemory<char> chunk in held.GetChunks())
            {
                output.Write(chunk.Span);
            }
        }
    }
}
