using System.Globalization;
using System.Runtime.CompilerServices;
using Npgsql;

namespace Experiments.Results.Store;

/// <summary>Rows as they come from the server, none kept. Dispose it to give the connection back; what it began is rolled back.</summary>
/// <remarks>Values are long, int, short, double, float, bool, string, Guid, DateTimeOffset, decimal, byte[] or arrays of these; a
/// type that .NET has no equal of arrives as the text that psql would show.</remarks>
public sealed class ResultRows : IAsyncDisposable
{
    private static readonly HashSet<string> Typed = new(StringComparer.Ordinal)
    {
        "boolean", "smallint", "integer", "bigint", "real", "double precision", "text", "name", "character varying", "character",
        "uuid", "json", "jsonb", "bytea", "double precision[]", "real[]", "bigint[]", "integer[]", "text[]",
    };

    private readonly NpgsqlConnection _connection;
    private readonly NpgsqlCommand _command;
    private readonly NpgsqlDataReader _reader;

    private ResultRows(NpgsqlConnection connection, NpgsqlCommand command, NpgsqlDataReader reader, IReadOnlyList<ResultColumn> columns)
    {
        _connection = connection;
        _command = command;
        _reader = reader;
        Columns = columns;
    }

    public IReadOnlyList<ResultColumn> Columns { get; }

    /// <summary>The rows, once.</summary>
    /// <exception cref="QueryException">The statement failed on the way.</exception>
    public async IAsyncEnumerable<object?[]> ReadAsync([EnumeratorCancellation] CancellationToken cancellation = default)
    {
        while (await NextAsync(cancellation))
        {
            object?[] row = new object?[Columns.Count];
            for (int i = 0; i < row.Length; i++)
            {
                row[i] = Value(i);
            }

            yield return row;
        }
    }

    public async ValueTask DisposeAsync()
    {
        // A reader that was left half-way would read the rest of its rows; the server is told to stop instead.
        _command.Cancel();
        try
        {
            await _reader.DisposeAsync();
        }
        catch (PostgresException fault) when (fault.SqlState == PostgresErrorCodes.QueryCanceled)
        {
            // By us, just now.
            _ = fault;
        }

        await _command.DisposeAsync();
        await _connection.DisposeAsync();
    }

    internal static async Task<ResultRows> OpenAsync(
        NpgsqlConnection connection, string sql, object[] values, CancellationToken cancellation)
    {
        NpgsqlCommand? command = null;
        try
        {
            ResultColumn[] columns = await DescribeAsync(connection, sql, values, cancellation);
            if (columns.Length == 0)
            {
                // SET, COMMIT, BEGIN, DO, LISTEN, COPY, …: refused before it runs.
                throw new QueryException("`query` takes one statement that returns rows, such as SELECT, and this one returns none.");
            }

            command = new NpgsqlCommand(sql, connection) { CommandTimeout = 0 };
            Add(command.Parameters, values);
            command.UnknownResultTypeList = [.. columns.Select(c => !Typed.Contains(c.PostgresType))];
            NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellation);
            return new ResultRows(connection, command, reader, columns);
        }
        catch
        {
            if (command is not null)
            {
                await command.DisposeAsync();
            }

            await connection.DisposeAsync();
            throw;
        }
    }

    /// <summary>Has the server parse the text, which refuses anything but one statement, and say what columns it has.</summary>
    private static async Task<ResultColumn[]> DescribeAsync(
        NpgsqlConnection connection, string sql, object[] values, CancellationToken cancellation)
    {
        await using NpgsqlBatch batch = new(connection);
        NpgsqlBatchCommand one = new(sql);
        Add(one.Parameters, values);
        batch.BatchCommands.Add(one);
        await using NpgsqlDataReader reader = await batch.ExecuteReaderAsync(System.Data.CommandBehavior.SchemaOnly, cancellation);
        return [.. Enumerable.Range(0, reader.FieldCount).Select(
            i => new ResultColumn(reader.GetName(i), TypeOf(reader.GetDataTypeName(i)), reader.GetDataTypeName(i)))];
    }

    private static void Add(NpgsqlParameterCollection parameters, object[] values)
    {
        foreach (object value in values)
        {
            parameters.Add(new NpgsqlParameter { Value = value });
        }
    }

    private async Task<bool> NextAsync(CancellationToken cancellation)
    {
        try
        {
            return await _reader.ReadAsync(cancellation);
        }
        catch (PostgresException fault)
        {
            throw QueryException.From(fault);
        }
    }

    private object? Value(int column)
    {
        if (_reader.IsDBNull(column))
        {
            return null;
        }

        object value = _reader.GetValue(column);
        if (value is not string text || Typed.Contains(Columns[column].PostgresType))
        {
            return value;
        }

        if (Columns[column].Type == typeof(DateTimeOffset))
        {
            return DateTimeOffset.TryParse(
                text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out DateTimeOffset time)
                ? time : text;
        }

        return Columns[column].Type == typeof(decimal)
            && decimal.TryParse(text, NumberStyles.Number, CultureInfo.InvariantCulture, out decimal number) ? number : text;
    }

    private static Type TypeOf(string name) => name switch
    {
        "boolean" => typeof(bool),
        "smallint" => typeof(short),
        "integer" => typeof(int),
        "bigint" => typeof(long),
        "real" => typeof(float),
        "double precision" => typeof(double),
        "uuid" => typeof(Guid),
        "bytea" => typeof(byte[]),
        "double precision[]" => typeof(double[]),
        "real[]" => typeof(float[]),
        "bigint[]" => typeof(long[]),
        "integer[]" => typeof(int[]),
        "text[]" => typeof(string[]),
        "timestamp with time zone" => typeof(DateTimeOffset),
        _ when name.StartsWith("numeric", StringComparison.Ordinal) => typeof(decimal),
        _ => typeof(string),
    };
}
