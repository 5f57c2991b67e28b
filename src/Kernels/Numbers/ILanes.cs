using System.Numerics;

namespace Experiments.Kernels.Numbers;

/// <summary>A register full of numbers, the width being the type's: a kernel that is generic over it is written once, and
/// compiled for each width to the instructions one would have typed.</summary>
/// <typeparam name="TSelf">The implementing struct.</typeparam>
/// <typeparam name="T">float or double.</typeparam>
internal unsafe interface ILanes<TSelf, T>
    where TSelf : struct, ILanes<TSelf, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>How many numbers there are.</summary>
    static abstract int Count { get; }

    static abstract TSelf Zero { get; }

    static abstract TSelf operator +(TSelf a, TSelf b);

    static abstract TSelf operator -(TSelf a, TSelf b);

    static abstract TSelf operator *(TSelf a, TSelf b);

    static abstract TSelf Load(T* from);

    static abstract TSelf Broadcast(T value);

    /// <summary>a b + c, rounded once where the processor can, else twice: emulating it is a hundred times slower.</summary>
    static abstract TSelf MulAdd(TSelf a, TSelf b, TSelf c);

    /// <summary>The larger of each two in one instruction; with NaN, either.</summary>
    static abstract TSelf Max(TSelf a, TSelf b);

    static abstract TSelf Abs(TSelf a);

    /// <summary>value 2^k, where k stands in the low bits of <paramref name="exponent"/>; the result must be normal.</summary>
    static abstract TSelf Scale(TSelf value, TSelf exponent);

    /// <summary>The sum over the lanes.</summary>
    static abstract T Sum(TSelf a);

    void Store(T* to);

    /// <summary>to[i] += factor × lane i, in double.</summary>
    void AddTo(double* to, double factor);
}
