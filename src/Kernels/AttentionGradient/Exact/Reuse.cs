namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>What passes through the caches once and what more often: how many blocks of rows a tile of keys serves before the next
/// tile is fetched, and whether exponentials wait for the second half or are made again.</summary>
/// <remarks>
/// Per pair of row and key, keys and values are read 4 d / (W · blocks) times, W rows a block, and exponentials that wait are written once
/// and read once, with a read before the write: three numbers. Blocks that share a tile share what is read of the keys, but each has n
/// exponentials waiting.
/// <list type="bullet">
/// <item>Keys and values that a core's own cache holds need no sharing. Otherwise four blocks share, if that leaves all of it in the
/// shared cache: 2 to 3 % of the time at n = 4096 from d = 32 on.</item>
/// <item>If it does not, keys and values stay there and one block's exponentials at a time pass through: at n = 16384 and d = 8 on two threads that
/// takes 3 % less time than four blocks' at once.</item>
/// <item>Keys and values that come from memory are shared by as many blocks as make what they cost a third of what the
/// exponentials do: at n = 65536 and d = 64 sixteen blocks take a quarter less time than one.</item>
/// <item>Made again, exponentials cost d + 6 multiply-adds a pair more, 37 % of the time at d = 8. So they wait while those of all threads stay in the
/// shared cache (<see cref="MostInCache"/>), or one block's in a core's own. Where they would not, three numbers a pair to and from memory cost about as much as 20 to
/// 40 multiply-adds: from d = 32 on they wait even so (<see cref="MostInMemory"/>), which takes an eighth less time at d = 64.</item>
/// </list>
/// The bits of the result depend on none of it.
/// </remarks>
/// <param name="Blocks">How many blocks share a tile of keys.</param>
/// <param name="Keeps">Whether their exponentials wait.</param>
internal readonly record struct Reuse(int Blocks, bool Keeps)
{
    // In bytes. Of a core's own cache half, of the one that a few cores share what other programs leave.
    private const long OwnCache = 512 << 10;
    private const long SharedCache = 8L << 20;

    // Of waiting exponentials, on all processors together: by processors and not by the call's threads, as a silo's other lanes call
    // kernels too.
    private const long MostInCache = 32L << 20;
    private const long MostInMemory = 256L << 20;

    private const int LeastToFetch = 32;

    private const int MostBlocks = 16;

    /// <summary>How many blocks' shares of dX and dY are summed in the problem's precision before they are added to the chunk's; as many
    /// share a tile, or several times as many, or a part of them, for the sums to be the same.</summary>
    public const int Group = 4;

    /// <summary>What suits a call.</summary>
    /// <param name="n">Keys.</param>
    /// <param name="stride">Numbers from one key to the next.</param>
    /// <param name="width">Rows in a block.</param>
    /// <param name="size">Bytes of a number.</param>
    /// <param name="processors">How many threads share caches and memory: the call's own or all that the machine runs, whichever are more.</param>
    public static Reuse For(long n, int stride, int width, int size, int processors)
    {
        long operands = Operands(n, stride, size), exponentials = n * width * size;
        bool roomForAll = operands > OwnCache && operands + ((long)processors * Group * exponentials) <= SharedCache;
        int without = Sharing(operands, stride, width), wanted = roomForAll ? Group : without;
        long affordable = Math.Max(
            (stride >= LeastToFetch ? MostInMemory : MostInCache) / processors / exponentials, exponentials <= OwnCache ? 1 : 0);
        return 2 * affordable >= wanted
            ? new((int)Math.Min(wanted, RoundDown(affordable)), true) : new(Math.Max(without, Group), false);
    }

    /// <summary>Whether keys and values stay in a core's own cache: then nothing is won by sharing what is read of them.</summary>
    public static bool FitsOwnCache(long n, int stride, int size) => Operands(n, stride, size) <= OwnCache;

    private static long Operands(long n, int stride, int size) => 2 * n * stride * size;

    /// <summary>How many blocks share a tile where no exponentials wait: only what comes from memory is worth the blocks' own sums in the way.</summary>
    /// <param name="operands">Bytes of all that streams past a block.</param>
    /// <param name="stride">Numbers from one token to the next.</param>
    /// <param name="width">Tokens in a block.</param>
    public static int Sharing(long operands, int stride, int width) =>
        operands <= SharedCache ? 1 : Math.Min(MostBlocks, RoundUp(((4 * stride) + width - 1) / width));

    /// <summary>How many of so many blocks share a tile at a time: twelve and ten of 22 rather than sixteen and six.</summary>
    public int Of(int blocks)
    {
        int passes = (blocks + Blocks - 1) / Blocks;
        return Math.Min(blocks, Blocks < Group ? Blocks : RoundUp((blocks + passes - 1) / passes));
    }

    // The least number of blocks, from so many on, that may share.
    private static int RoundUp(int blocks) => blocks <= 2 ? blocks : (blocks + Group - 1) / Group * Group;

    private static long RoundDown(long blocks) => blocks < Group ? Math.Min(blocks, 2) : blocks / Group * Group;
}
