using Npgsql;

namespace Experiments.Results.Store;

/// <summary>A person's SQL was refused or failed: exit code 1. The message is for them.</summary>
public sealed class QueryException(string message, Exception? inner = null) : Exception(message, inner)
{
    internal static QueryException From(PostgresException fault)
    {
        string text = fault.SqlState switch
        {
            PostgresErrorCodes.QueryCanceled =>
                "The query ran longer than its time limit and was stopped. Narrow it (sweep_id = … is indexed), or use psql.",
            PostgresErrorCodes.ReadOnlySqlTransaction => $"{fault.MessageText}: `query` only reads.",
            PostgresErrorCodes.InsufficientPrivilege => $"{fault.MessageText}: `query` runs as a role that only reads.",
            PostgresErrorCodes.SyntaxError when fault.MessageText.Contains("multiple commands", StringComparison.Ordinal) =>
                "`query` takes one statement that returns rows, and this is more than one.",
            _ => fault.Hint is { Length: > 0 } hint ? $"{fault.MessageText}. {hint}" : fault.MessageText + ".",
        };
        return new QueryException(fault.Position > 0 ? $"{text} (at character {fault.Position})" : text, fault);
    }
}
