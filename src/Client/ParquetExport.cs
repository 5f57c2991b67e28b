using System.Globalization;
using Experiments.Client.Terminals;
using Experiments.Results.Store;
using Parquet;
using Parquet.Schema;

namespace Experiments.Client;

/// <summary>Rows of the store as a Parquet file, a row group at a time, so that memory stays flat.</summary>
internal static class ParquetExport
{
    // About 60 columns of 8 bytes: a group is some 30 MB before compression.
    private const int RowsPerGroup = 65_536;

    /// <returns>The number of rows.</returns>
    public static async Task<long> WriteAsync(ResultRows rows, Stream stream, CancellationToken cancellation)
    {
        List<IBuffer> buffers = [.. rows.Columns.Select(BufferOf)];
        ParquetSchema schema = new([.. buffers.Select(b => (Field)b.Field)]);
        ParquetOptions options = new() { CompressionMethod = CompressionMethod.Zstd };
        await using ParquetWriter writer = await ParquetWriter.CreateAsync(schema, stream, options, false, cancellation);
        long count = 0;
        int inGroup = 0;
        await foreach (object?[] row in rows.ReadAsync(cancellation))
        {
            for (int c = 0; c < buffers.Count; c++)
            {
                buffers[c].Add(row[c]);
            }

            count++;
            if (++inGroup == RowsPerGroup)
            {
                await FlushAsync(writer, buffers, cancellation);
                inGroup = 0;
            }
        }

        if (inGroup > 0 || count == 0)
        {
            await FlushAsync(writer, buffers, cancellation);
        }

        return count;
    }

    private static async Task FlushAsync(ParquetWriter writer, List<IBuffer> buffers, CancellationToken cancellation)
    {
        using ParquetRowGroupWriter group = writer.CreateRowGroup();
        foreach (IBuffer buffer in buffers)
        {
            await buffer.FlushAsync(group, cancellation);
        }

        group.CompleteValidate();
    }

    private static IBuffer BufferOf(ResultColumn column) => column.Type switch
    {
        Type t when t == typeof(short) || t == typeof(int) => new ValueBuffer<int>(
            column.Name, v => Convert.ToInt32(v, CultureInfo.InvariantCulture)),
        Type t when t == typeof(long) => new ValueBuffer<long>(column.Name, v => (long)v),
        Type t when t == typeof(double) => new ValueBuffer<double>(column.Name, v => (double)v),
        Type t when t == typeof(float) => new ValueBuffer<float>(column.Name, v => (float)v),
        Type t when t == typeof(bool) => new ValueBuffer<bool>(column.Name, v => (bool)v),
        Type t when t == typeof(DateTimeOffset) => new ValueBuffer<DateTime>(
            new DateTimeDataField(column.Name, DateTimeFormat.Timestamp, isAdjustedToUTC: true, unit: DateTimeTimeUnit.Micros,
                isNullable: true), v => ((DateTimeOffset)v).UtcDateTime),
        _ => new TextBuffer(column.Name),
    };

    private interface IBuffer
    {
        DataField Field { get; }

        void Add(object? value);

        Task FlushAsync(ParquetRowGroupWriter group, CancellationToken cancellation);
    }

    private sealed class ValueBuffer<T>(DataField field, Func<object, T> read) : IBuffer
        where T : struct
    {
        private readonly List<T?> _values = [];

        public ValueBuffer(string name, Func<object, T> read)
            : this(new DataField<T?>(name), read)
        {
        }

        public DataField Field { get; } = field;

        public void Add(object? value) => _values.Add(value is null ? null : read(value));

        public async Task FlushAsync(ParquetRowGroupWriter group, CancellationToken cancellation)
        {
            await group.WriteAsync<T>(Field, _values.ToArray().AsMemory(), null, null, cancellation);
            _values.Clear();
        }
    }

    private sealed class TextBuffer(string name) : IBuffer
    {
        private readonly List<string?> _values = [];

        public DataField Field { get; } = new DataField<string>(name, true);

        public void Add(object? value) => _values.Add(value is null ? null : Format.Value(value));

        public async Task FlushAsync(ParquetRowGroupWriter group, CancellationToken cancellation)
        {
            await group.WriteAsync(Field, _values!, null);
            _values.Clear();
        }
    }
}
