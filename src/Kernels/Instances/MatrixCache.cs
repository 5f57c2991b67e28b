namespace Experiments.Kernels.Instances;

/// <summary>The matrices that the process read last: a sweep's instances are slices of a few files.</summary>
/// <remarks>A file is known by its path, length and time of last writing, so one that changes is read again.</remarks>
internal static class MatrixCache
{
    private const int MaxFiles = 32;

    // In all, as double. Larger files are sliced from the disk each time, which reads only the rows that are wanted.
    private const long MaxBytes = 256L << 20;

    private static readonly Lock Gate = new();
    private static readonly LinkedList<Matrix> Recent = new();

    public static Matrix Open(string path)
    {
        FileInfo info = new(Path.GetFullPath(path));
        long length = info.Exists ? info.Length : -1;
        long written = info.Exists ? info.LastWriteTimeUtc.Ticks : 0;
        lock (Gate)
        {
            for (LinkedListNode<Matrix>? node = Recent.First; node is not null; node = node.Next)
            {
                if (node.Value.FullPath == info.FullName && node.Value.Length == length && node.Value.Written == written)
                {
                    Recent.Remove(node);
                    Recent.AddFirst(node);
                    return node.Value;
                }
            }
        }

        NpyFile file = NpyFile.Open(path);
        Matrix matrix = new(file, info.FullName, length, written);
        lock (Gate)
        {
            Recent.AddFirst(matrix);
            long bytes = 0;
            int count = 0;
            for (LinkedListNode<Matrix>? node = Recent.First; node is not null;)
            {
                LinkedListNode<Matrix>? next = node.Next;
                count++;
                bytes += node.Value.BytesHeld;
                if (count > MaxFiles || bytes > MaxBytes)
                {
                    Recent.Remove(node);
                }

                node = next;
            }
        }

        return matrix;
    }

    internal sealed class Matrix(NpyFile file, string fullPath, long length, long written)
    {
        private const long LargestHeld = 64L << 20;

        private double[]? _values;
        private string? _content;

        public NpyFile File => file;

        public string FullPath => fullPath;

        public long Length => length;

        public long Written => written;

        /// <summary>The first 128 bits of the file's SHA-256, as lower-case hex, read once.</summary>
        public string Content => _content ??= Unchanged(FileContents.Of(fullPath));

        /// <summary>What it holds once read: the files of up to 64 MiB.</summary>
        public long BytesHeld => Held ? 8L * file.Rows * file.Columns : 0;

        private bool Held => 8L * file.Rows * file.Columns <= LargestHeld;

        /// <summary>What was just read of the file, which must still be the one that was opened: numbers of another would go by this one's hash.</summary>
        private T Unchanged<T>(T read)
        {
            FileInfo info = new(fullPath);
            return info.Exists && info.Length == length && info.LastWriteTimeUtc.Ticks == written
                ? read
                : throw new InvalidDataException($"{file.Path} was changed while it was read. Leave it alone, and try again.");
        }

        public double[] Read(int firstRow, int rows, int firstColumn, int columns)
        {
            if (!Held)
            {
                return Unchanged(file.Read(firstRow, rows, firstColumn, columns));
            }

            // Two threads may both read it the first time; either's values are the file's.
            double[] all = _values ??= Unchanged(file.ReadUnchecked(0, file.Rows, 0, file.Columns));
            double[] slice = new double[rows * columns];
            for (int row = 0; row < rows; row++)
            {
                Array.Copy(all, ((firstRow + row) * file.Columns) + firstColumn, slice, row * columns, columns);
            }

            // Only what is used has to be finite.
            file.ThrowIfNotFinite(slice, firstRow, firstColumn, columns);

            return slice;
        }
    }
}
