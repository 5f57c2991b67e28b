using System.Numerics;
using System.Runtime.CompilerServices;

namespace Experiments.Kernels.Numbers;

/// <summary>One number: for processors, and settings of the runtime, without vectors.</summary>
internal readonly unsafe struct LanesScalar<T>(T value) : ILanes<LanesScalar<T>, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly T _value = value;

    public static int Count => 1;

    public static LanesScalar<T> Zero => new(T.Zero);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static LanesScalar<T> operator +(LanesScalar<T> a, LanesScalar<T> b) => new(a._value + b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static LanesScalar<T> operator -(LanesScalar<T> a, LanesScalar<T> b) => new(a._value - b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static LanesScalar<T> operator *(LanesScalar<T> a, LanesScalar<T> b) => new(a._value * b._value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static LanesScalar<T> Load(T* from) => new(*from);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static LanesScalar<T> Broadcast(T value) => new(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static LanesScalar<T> MulAdd(LanesScalar<T> a, LanesScalar<T> b, LanesScalar<T> c) =>
        new(T.MultiplyAddEstimate(a._value, b._value, c._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static LanesScalar<T> Max(LanesScalar<T> a, LanesScalar<T> b) => a._value > b._value ? a : b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static LanesScalar<T> Abs(LanesScalar<T> a) => new(T.Abs(a._value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static LanesScalar<T> Scale(LanesScalar<T> value, LanesScalar<T> exponent)
    {
        if (typeof(T) == typeof(float))
        {
            int bits = BitConverter.SingleToInt32Bits((float)(object)value._value)
                + (BitConverter.SingleToInt32Bits((float)(object)exponent._value) << 23);
            return new((T)(object)BitConverter.Int32BitsToSingle(bits));
        }

        long wide = BitConverter.DoubleToInt64Bits((double)(object)value._value)
            + (BitConverter.DoubleToInt64Bits((double)(object)exponent._value) << 52);
        return new((T)(object)BitConverter.Int64BitsToDouble(wide));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static T Sum(LanesScalar<T> a) => a._value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store(T* to) => *to = _value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void AddTo(double* to, double factor) => *to += factor * double.CreateTruncating(_value);
}
