using System.Reflection;
using System.Security.Cryptography;
using System.Text;
using DbUp;
using DbUp.Engine;
using Experiments.Results.Store;
using Npgsql;

namespace Experiments.Results.Migrations;

/// <summary>Brings a database to this build's schema, forwards only, and gives it its roles.</summary>
/// <remarks>Two at once wait for each other on an advisory lock. When nothing is to be done it costs one query.</remarks>
public static class Migrator
{
    private const string Prefix = "Experiments.Results.Migrations.";

    // 64 hexadecimal digits of salt would be no safer; 16 bytes and 4096 rounds are what Postgres itself uses.
    private const int SaltBytes = 16;
    private const int ScramRounds = 4096;

    /// <summary>The numbered scripts of this build, in order: 0001_tables.sql, ….</summary>
    public static IReadOnlyList<string> Scripts { get; } = Assembly.GetExecutingAssembly().GetManifestResourceNames()
        .Where(name => name.StartsWith(Prefix, StringComparison.Ordinal) && name.EndsWith(".sql", StringComparison.Ordinal))
        .Select(name => name[Prefix.Length..])
        .Order(StringComparer.Ordinal)
        .ToList();

    /// <summary>The names of the two roles of a database.</summary>
    public static (string Writer, string Reader) RoleNames(string database) => ($"{database}_writer", $"{database}_reader");

    /// <summary>Migrates if need be, and says how to log in.</summary>
    /// <param name="owner">Npgsql connection string of a role that may migrate, or of one that finds nothing to do.</param>
    /// <param name="privateFolder">Of the private server this is, or null.</param>
    /// <param name="notice">Gets what could not be done and who could.</param>
    public static async Task<StoreAddress> MigrateAsync(
        string owner, string? privateFolder, Action<string> notice, CancellationToken cancellation) =>
        await MigrateAsync(owner, privateFolder, roles: null, notice, cancellation);

    /// <param name="roles">The roles' names, when they are not those of the database (a copy of a template keeps its template's).</param>
    public static async Task<StoreAddress> MigrateAsync(
        string owner, string? privateFolder, (string Writer, string Reader)? roles, Action<string> notice, CancellationToken cancellation)
    {
        NpgsqlConnectionStringBuilder settings = new(owner) { ApplicationName = "experiments migrate" };
        await using NpgsqlConnection connection = new(settings.ConnectionString);
        await StoreFaults.OpenAsync(connection, cancellation);
        if (connection.PostgreSqlVersion.Major < 14)
        {
            throw new StoreUnavailableException(
                $"{StoreFaults.Place(owner)} is PostgreSQL {connection.PostgreSqlVersion}; 14 or newer is needed. Upgrade it, or name "
                + "another server in EXPERIMENTS_POSTGRES; with none named, a private one is started.");
        }

        string database = connection.Database;
        (string writer, string reader) = roles ?? RoleNames(database);
        SchemaState? state = await ReadStateAsync(connection, writer, reader, cancellation);
        RefuseNewer(state, owner);
        if (state is null || state.Applied.Count < Scripts.Count || (state.MayMigrate && (!state.HasWriter || !state.HasReader)))
        {
            state = await MigrateLockedAsync(connection, owner, writer, reader, notice, cancellation);
        }

        return Address(owner, privateFolder, database, writer, reader, state);
    }

    /// <summary>How to log in to a database that is of this build's schema already; null for another. It changes nothing.</summary>
    public static async Task<StoreAddress?> FindAsync(string owner, CancellationToken cancellation)
    {
        await using NpgsqlConnection connection = new(owner);
        await StoreFaults.OpenAsync(connection, cancellation);
        (string writer, string reader) = RoleNames(connection.Database);
        return await ReadStateAsync(connection, writer, reader, cancellation) is SchemaState state
            && Scripts.All(script => state.Applied.Contains(script, StringComparer.Ordinal))
            ? Address(owner, null, connection.Database, writer, reader, state) : null;
    }

    /// <summary>Drops everything of ours: the schema with every sweep. Refused while a silo is connected.</summary>
    public static async Task ResetAsync(StoreAddress address, CancellationToken cancellation)
    {
        await using NpgsqlConnection connection = new(new NpgsqlConnectionStringBuilder(address.Owner) { Pooling = false }.ConnectionString);
        await StoreFaults.OpenAsync(connection, cancellation);
        try
        {
            await ExecuteAsync(connection, SqlText.Named("migration-lock"), cancellation);
            long alive;
            try
            {
                await using NpgsqlCommand command = new(SqlText.Named("count-live-nodes"), connection);
                alive = (long)(await command.ExecuteScalarAsync(cancellation))!;
            }
            catch (PostgresException fault) when (IsAbsent(fault))
            {
                return;
            }

            if (alive > 0)
            {
                throw new StoreUnavailableException(
                    $"{alive} running process{(alive == 1 ? " uses" : "es use")} this database, so it was not reset. End them "
                    + "(`experiments cancel`, or Ctrl-C where they run) and reset again.");
            }

            await ExecuteAsync(connection, SqlText.Named("drop-schema"), cancellation);
        }
        catch (NpgsqlException fault)
        {
            throw StoreFaults.Explain(fault, address.Owner);
        }
    }

    /// <summary>The password that a role gets when the owner logs in with one; null when the owner needs none.</summary>
    internal static string? RolePassword(string owner, string role, string database) =>
        new NpgsqlConnectionStringBuilder(owner).Password is { Length: > 0 } password
            ? Convert.ToBase64String(HMACSHA256.HashData(
                Encoding.UTF8.GetBytes(password), Encoding.UTF8.GetBytes($"experiments {role}|{database}")))
                .TrimEnd('=').Replace('+', '-').Replace('/', '_')
            : null;

    /// <summary>What an administrator runs where the owner may not make roles.</summary>
    internal static string RolesByHand(string database)
    {
        string reader = Quote(RoleNames(database).Reader);
        return $"CREATE ROLE {reader} LOGIN PASSWORD '…'; GRANT USAGE ON SCHEMA experiments TO {reader}; "
            + $"GRANT SELECT ON ALL TABLES IN SCHEMA experiments TO {reader}; REVOKE ALL ON experiments.file_piece FROM {reader}; ALTER ROLE {reader} SET default_transaction_read_only = on;";
    }

    private static async Task<SchemaState> MigrateLockedAsync(
        NpgsqlConnection connection, string owner, string writer, string reader, Action<string> notice, CancellationToken cancellation)
    {
        try
        {
            await using (NpgsqlCommand wait = new(SqlText.Named("migration-lock"), connection) { CommandTimeout = 0 })
            {
                await wait.ExecuteNonQueryAsync(cancellation);
            }

            try
            {
                SchemaState? state = await ReadStateAsync(connection, writer, reader, cancellation);
                RefuseNewer(state, owner);
                if (state is null)
                {
                    await ExecuteAsync(connection, SqlText.Named("create-schema"), cancellation);
                }

                if (state is null || state.Applied.Count < Scripts.Count)
                {
                    await Task.Run(() => Upgrade(owner), cancellation);
                }

                await ProvisionAsync(connection, owner, writer, reader, notice, cancellation);
                return await ReadStateAsync(connection, writer, reader, cancellation)
                    ?? throw new InvalidOperationException("The schema is gone right after it was made.");
            }
            finally
            {
                await ExecuteAsync(connection, SqlText.Named("migration-unlock"), CancellationToken.None);
            }
        }
        catch (NpgsqlException fault)
        {
            throw StoreFaults.Explain(fault, owner);
        }
    }

    private static void Upgrade(string owner)
    {
        DatabaseUpgradeResult result = DeployChanges.To.PostgresqlDatabase(owner)
            .WithScripts(Scripts.Select(name => new SqlScript(name, SqlText.Read(Prefix + name))))
            .WithTransactionPerScript()
            .WithVariablesDisabled()
            // A script that makes kept summaries anew takes seconds for every million trials, and would start over each time.
            .WithExecutionTimeout(TimeSpan.Zero)
            .JournalToPostgresqlTable("experiments", "migration")
            .LogToNowhere()
            .Build()
            .PerformUpgrade();
        if (!result.Successful)
        {
            throw result.Error is NpgsqlException fault
                ? StoreFaults.Explain(fault, owner)
                : new StoreUnavailableException($"The script {result.ErrorScript?.Name} could not be applied: {result.Error.Message}", result.Error);
        }
    }

    private static async Task ProvisionAsync(
        NpgsqlConnection connection, string owner, string writer, string reader, Action<string> notice, CancellationToken cancellation)
    {
        string database = connection.Database;
        await ExecuteAsync(connection, SqlText.Named("provision-schema"), cancellation);
        if (!await MakeRoleAsync(connection, writer, RolePassword(owner, "writer", database), notice, cancellation)
            || !await MakeRoleAsync(connection, reader, RolePassword(owner, "reader", database), notice, cancellation))
        {
            return;
        }

        await ExecuteAsync(connection, Fill("provision-reader", database, writer, reader), cancellation);
        await ExecuteAsync(connection, Fill("provision-grants", database, writer, reader), cancellation);
        foreach (string optional in (string[])["provision-database", "provision-large-objects"])
        {
            try
            {
                await ExecuteAsync(connection, Fill(optional, database, writer, reader), cancellation);
            }
            catch (PostgresException fault) when (fault.SqlState == PostgresErrorCodes.InsufficientPrivilege)
            {
                // The database belongs to someone else. What is lost is comfort (psql's search path) and a second fence: the
                // reader still has no right to write, and its transactions are read-only and rolled back.
                continue;
            }
        }
    }

    private static async Task<bool> MakeRoleAsync(
        NpgsqlConnection connection, string role, string? password, Action<string> notice, CancellationToken cancellation)
    {
        await using NpgsqlCommand look = new(SqlText.Named("role-attributes"), connection);
        look.Parameters.Add(new NpgsqlParameter { Value = role });
        object? powerful = await look.ExecuteScalarAsync(cancellation);
        if (powerful is true)
        {
            throw new StoreUnavailableException(
                $"A role named {role} exists and has powers beyond reading and writing, so it is not taken over. Rename that role, "
                + "or use a database of another name.");
        }

        try
        {
            if (powerful is null)
            {
                await ExecuteAsync(connection, SqlText.Named("provision-create-role").Replace("{role}", Quote(role), StringComparison.Ordinal), cancellation);
            }

            string verifier = password is null ? "NULL" : $"'{ScramVerifier(password)}'";
            await ExecuteAsync(
                connection,
                SqlText.Named("provision-role").Replace("{role}", Quote(role), StringComparison.Ordinal)
                    .Replace("{password}", verifier, StringComparison.Ordinal),
                cancellation);
            return true;
        }
        catch (PostgresException fault) when (fault.SqlState == PostgresErrorCodes.InsufficientPrivilege)
        {
            notice($"This role may not make the role {role}: silos write as the owner, and `query` needs a reader. An administrator "
                + $"may run: {RolesByHand(connection.Database)} Then set EXPERIMENTS_POSTGRES_READER to its connection string.");
            return false;
        }
    }

    private static async Task<SchemaState?> ReadStateAsync(
        NpgsqlConnection connection, string writer, string reader, CancellationToken cancellation)
    {
        try
        {
            await using NpgsqlCommand command = new(SqlText.Named("schema-state"), connection);
            command.Parameters.Add(new NpgsqlParameter { Value = writer });
            command.Parameters.Add(new NpgsqlParameter { Value = reader });
            await using NpgsqlDataReader row = await command.ExecuteReaderAsync(cancellation);
            await row.ReadAsync(cancellation);
            return new SchemaState(
                row.IsDBNull(0) ? [] : row.GetFieldValue<string[]>(0), row.GetBoolean(1), row.GetBoolean(2), row.GetBoolean(3));
        }
        catch (PostgresException fault) when (IsAbsent(fault))
        {
            return null;
        }
        catch (NpgsqlException fault)
        {
            throw StoreFaults.Explain(fault, connection.ConnectionString);
        }
    }

    private static bool IsAbsent(PostgresException fault) =>
        fault.SqlState is PostgresErrorCodes.UndefinedTable or PostgresErrorCodes.InvalidSchemaName;

    private static void RefuseNewer(SchemaState? state, string owner)
    {
        if (state?.Applied.Except(Scripts, StringComparer.Ordinal).FirstOrDefault() is string unknown)
        {
            throw new StoreUnavailableException(
                $"The database at {StoreFaults.Place(owner)} was migrated by a newer build ({unknown}); this one knows {Scripts[^1]} "
                + "at most. Use that build, or another database.");
        }
    }

    private static StoreAddress Address(
        string owner, string? privateFolder, string database, string writer, string reader, SchemaState state)
    {
        string? namedReader = Environment.GetEnvironmentVariable("EXPERIMENTS_POSTGRES_READER");
        string readerAddress = privateFolder is null && namedReader is { Length: > 0 }
            ? ConnectionText.Read(namedReader, "EXPERIMENTS_POSTGRES_READER").ConnectionString
            : state.HasReader ? LogIn(owner, reader, RolePassword(owner, "reader", database))
            : "";
        string writerAddress = state.HasWriter && state.MayMigrate ? LogIn(owner, writer, RolePassword(owner, "writer", database)) : owner;
        return new StoreAddress(owner, writerAddress, readerAddress, privateFolder);
    }

    private static string LogIn(string owner, string role, string? password)
    {
        NpgsqlConnectionStringBuilder settings = new(owner) { Username = role };
        if (password is null)
        {
            settings.Remove("Password");
        }
        else
        {
            settings.Password = password;
        }

        return settings.ConnectionString;
    }

    private static string Fill(string name, string database, string writer, string reader) => SqlText.Named(name)
        .Replace("{database}", Quote(database), StringComparison.Ordinal)
        .Replace("{writer}", Quote(writer), StringComparison.Ordinal)
        .Replace("{reader}", Quote(reader), StringComparison.Ordinal);

    private static string Quote(string identifier) => $"\"{identifier.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";

    /// <summary>What Postgres would store for a password (RFC 5803), made here so that no server log ever sees the password.</summary>
    private static string ScramVerifier(string password)
    {
        byte[] salt = RandomNumberGenerator.GetBytes(SaltBytes);
        byte[] salted = Rfc2898DeriveBytes.Pbkdf2(password, salt, ScramRounds, HashAlgorithmName.SHA256, SHA256.HashSizeInBytes);
        byte[] stored = SHA256.HashData(HMACSHA256.HashData(salted, "Client Key"u8));
        byte[] server = HMACSHA256.HashData(salted, "Server Key"u8);
        return $"SCRAM-SHA-256${ScramRounds}:{Convert.ToBase64String(salt)}${Convert.ToBase64String(stored)}:{Convert.ToBase64String(server)}";
    }

    private static async Task ExecuteAsync(NpgsqlConnection connection, string sql, CancellationToken cancellation)
    {
        await using NpgsqlCommand command = new(sql, connection);
        await command.ExecuteNonQueryAsync(cancellation);
    }

    private sealed record SchemaState(IReadOnlyList<string> Applied, bool MayMigrate, bool HasWriter, bool HasReader);
}
