using System.Globalization;
using System.Net;
using System.Text.Json;
using Experiments.Grains.Telemetry;
using Experiments.Grains.Worker;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using OpenTelemetry.Metrics;

namespace Experiments.Silo;

/// <summary>What an operator's machinery asks a silo: <c>/health/live</c>, <c>/health/ready</c> and, for Prometheus, <c>/metrics</c>.</summary>
/// <remarks>Live is a process that answers. Ready is one that the store has answered in the last ten seconds and that is not draining: a silo whose
/// store is away waits, and must not be restarted for it.</remarks>
internal sealed class HealthServer : IAsyncDisposable
{
    private static readonly TimeSpan StoreAnsweredWithin = TimeSpan.FromSeconds(10);

    private readonly WebApplication _web;

    private HealthServer(WebApplication web, IPEndPoint endpoint) => (_web, Endpoint) = (web, endpoint);

    public IPEndPoint Endpoint { get; }

    public bool IsDraining { get; set; }

    public static async Task<HealthServer> StartAsync(IPEndPoint at, SweepAttendant attendant, CancellationToken cancellation)
    {
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(o => o.Listen(at));
        builder.Services.AddRoutingCore();
        builder.Services.AddOpenTelemetry().ConfigureResource(r => SiloTelemetry.DescribeProcess(r.Clear())).WithMetrics(
            metrics => metrics.AddMeter(ExperimentsTelemetry.MeterName, "Microsoft.Orleans").AddPrometheusExporter());
        WebApplication web = builder.Build();
        HealthServer? server = null;
        web.MapGet("/health/live", () => Results("live", null, attendant));
        web.MapGet("/health/ready", () => Results("ready", NotReady(server!, attendant), attendant));
        web.MapPrometheusScrapingEndpoint();
        try
        {
            await web.StartAsync(cancellation);
        }
        catch (IOException fault)
        {
            await web.DisposeAsync();
            throw CannotServe(at, fault.Message, fault);
        }

        Uri bound = new(web.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());
        return server = new HealthServer(web, new IPEndPoint(at.Address, bound.Port));
    }

    public static ClusterSiloException CannotServe(IPEndPoint at, string why, Exception fault) =>
        new($"Health cannot be served at {at}: {why.TrimEnd('.')}. Name another address, or none.", fault);

    public ValueTask DisposeAsync() => _web.DisposeAsync();

    private static string? NotReady(HealthServer server, SweepAttendant attendant) =>
        server.IsDraining ? "draining"
        : attendant.SinceAsked is not TimeSpan since ? "waiting for the store"
        : since > StoreAnsweredWithin
            ? string.Create(CultureInfo.InvariantCulture, $"the store has not answered for {since.TotalSeconds:F0} s")
        : null;

    private static IResult Results(string what, string? not, SweepAttendant attendant) => Microsoft.AspNetCore.Http.Results.Text(
        JsonSerializer.Serialize(new Dictionary<string, object?>
        {
            ["status"] = not is null ? what : "not " + what,
            ["reason"] = not,
            ["sweeps"] = attendant.Sweeps,
        }),
        "application/json", statusCode: not is null ? 200 : 503);
}
