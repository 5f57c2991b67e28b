namespace Experiments.Kernels.Instances;

/// <summary>The quantile of the standard normal, with exactly rounded operations only.</summary>
/// <remarks>
/// Source: Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37 (1988),
/// PPND16, about 1e-16 relative. Its logarithm is computed here: a platform's differs in the last bit from another's.
/// </remarks>
internal static class Normal
{
    private static readonly double[] CentreOver =
    [
        3.3871328727963666080e0, 1.3314166789178437745e+2, 1.9715909503065514427e+3, 1.3731693765509461125e+4,
        4.5921953931549871457e+4, 6.7265770927008700853e+4, 3.3430575583588128105e+4, 2.5090809287301226727e+3,
    ];

    private static readonly double[] CentreUnder =
    [
        1, 4.2313330701600911252e+1, 6.8718700749205790830e+2, 5.3941960214247511077e+3, 2.1213794301586595867e+4,
        3.9307895800092710610e+4, 2.8729085735721942674e+4, 5.2264952788528545610e+3,
    ];

    private static readonly double[] MiddleOver =
    [
        1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
        1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4,
    ];

    private static readonly double[] MiddleUnder =
    [
        1, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1, 1.48103976427480074590e-1,
        1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9,
    ];

    private static readonly double[] TailOver =
    [
        6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
        2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7,
    ];

    private static readonly double[] TailUnder =
    [
        1, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2, 7.86869131145613259100e-4,
        1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15,
    ];

    /// <summary>x with Φ(x) = p, for 0 &lt; p &lt; 1.</summary>
    public static double Quantile(double p)
    {
        double q = p - 0.5;
        if (Math.Abs(q) <= 0.425)
        {
            double centre = 0.180625 - (q * q);
            return q * Ratio(CentreOver, CentreUnder, centre);
        }

        double r = Math.Sqrt(-Log(q < 0 ? p : 1 - p));
        double x = r <= 5 ? Ratio(MiddleOver, MiddleUnder, r - 1.6) : Ratio(TailOver, TailUnder, r - 5);
        return q < 0 ? -x : x;
    }

    /// <summary>ln x for a normal x &gt; 0, to about 1e-16 of max(1, |ln x|).</summary>
    public static double Log(double x)
    {
        // x = 2^k m with m in [√½, √2); ln m = 2 artanh((m − 1) / (m + 1)), |argument| < 0.172, where eleven odd powers
        // reach 1e-18.
        int k = Math.ILogB(x);
        double m = Math.ScaleB(x, -k);
        if (m > 1.4142135623730951)
        {
            m /= 2;
            k++;
        }

        double t = (m - 1) / (m + 1), square = t * t, sum = 0;
        for (int power = 23; power >= 1; power -= 2)
        {
            sum = (sum * square) + (1.0 / power);
        }

        return (k * 0.6931471805599453) + (2 * t * sum);
    }

    private static double Ratio(double[] over, double[] under, double r)
    {
        double numerator = 0, denominator = 0;
        for (int i = over.Length - 1; i >= 0; i--)
        {
            numerator = (numerator * r) + over[i];
            denominator = (denominator * r) + under[i];
        }

        return numerator / denominator;
    }
}
