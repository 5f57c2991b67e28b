using System.Numerics;

namespace Experiments.Kernels.AttentionGradient;

/// <summary>What the logits A1 X A2ᵀ are divided by.</summary>
public enum LogitScale
{
    /// <summary>d, as in Alman and Song.</summary>
    D,

    /// <summary>√d, as in transformers.</summary>
    SqrtD,
}

/// <summary>One instance of the attention-loss problem: A1, A2, A3, E of shape (n, d), X and Y of shape (d, d).</summary>
/// <remarks>
/// All matrices are row-major and dense. Shapes are checked here, once, so that kernels need not. Entries are not scanned
/// here: <see cref="FirstNonFinite"/> does that for inputs that come from outside.
/// </remarks>
/// <typeparam name="T">float or double.</typeparam>
public sealed class AttentionProblem<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <exception cref="ArgumentException">n or d below 1, or a matrix whose length is not its shape's.</exception>
    public AttentionProblem(int n, int d, T[] a1, T[] a2, T[] a3, T[] e, T[] x, T[] y)
    {
        if (n < 1 || d < 1)
        {
            throw new ArgumentException($"n = {n} and d = {d}: both must be at least 1.");
        }

        N = n;
        D = d;
        A1 = Checked(a1, n, d, "a1");
        A2 = Checked(a2, n, d, "a2");
        A3 = Checked(a3, n, d, "a3");
        E = Checked(e, n, d, "e");
        X = Checked(x, d, d, "x");
        Y = Checked(y, d, d, "y");
    }

    /// <summary>Tokens: the rows of A1, A2, A3 and E.</summary>
    public int N { get; }

    /// <summary>Head dimension: the columns of A1, A2, A3 and E; X and Y are d by d.</summary>
    public int D { get; }

    /// <summary>What the logits are divided by; <see cref="LogitScale.D"/> unless said otherwise.</summary>
    public LogitScale Scale { get; init; }

    /// <summary>Whether row i sees keys 0 to i only.</summary>
    public bool Causal { get; init; }

    /// <summary>d or √d, as <see cref="Scale"/> says, in double.</summary>
    public double Divisor => Scale == LogitScale.D ? D : Math.Sqrt(D);

    public T[] A1 { get; }

    public T[] A2 { get; }

    public T[] A3 { get; }

    public T[] E { get; }

    public T[] X { get; }

    public T[] Y { get; }

    /// <summary>The same numbers rounded (or widened) to another precision.</summary>
    public AttentionProblem<TTo> To<TTo>()
        where TTo : unmanaged, IBinaryFloatingPointIeee754<TTo> =>
        this as AttentionProblem<TTo>
        ?? new(N, D, Cast<TTo>(A1), Cast<TTo>(A2), Cast<TTo>(A3), Cast<TTo>(E), Cast<TTo>(X), Cast<TTo>(Y))
        {
            Scale = Scale,
            Causal = Causal,
        };

    /// <summary>The same matrices, shared, under another scale or mask.</summary>
    public AttentionProblem<T> With(LogitScale scale, bool causal) =>
        new(N, D, A1, A2, A3, E, X, Y) { Scale = scale, Causal = causal };

    /// <summary>Where the first NaN or infinity stands, such as "a2[3, 1] is NaN", or null if every entry is finite.</summary>
    public string? FirstNonFinite() =>
        NonFinite(A1, "a1") ?? NonFinite(A2, "a2") ?? NonFinite(A3, "a3")
        ?? NonFinite(E, "e") ?? NonFinite(X, "x") ?? NonFinite(Y, "y");

    private static T[] Checked(T[] values, int rows, int columns, string name)
    {
        ArgumentNullException.ThrowIfNull(values, name);
        return values.LongLength == (long)rows * columns
            ? values
            : throw new ArgumentException(
                $"{name} has {values.LongLength} values but shape ({rows}, {columns}) needs {(long)rows * columns}. "
                + "Matrices are row-major.", name);
    }

    private static TTo[] Cast<TTo>(T[] values)
        where TTo : unmanaged, IBinaryFloatingPointIeee754<TTo>
    {
        TTo[] cast = new TTo[values.Length];
        for (int i = 0; i < cast.Length; i++)
        {
            cast[i] = TTo.CreateTruncating(values[i]);
        }

        return cast;
    }

    private string? NonFinite(T[] values, string name)
    {
        for (int i = 0; i < values.Length; i++)
        {
            if (!T.IsFinite(values[i]))
            {
                return $"{name}[{i / D}, {i % D}] is {values[i]}";
            }
        }

        return null;
    }
}
