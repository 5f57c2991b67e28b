using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Orleans.Configuration;

namespace Experiments.Silo.Security;

public static class ClusterTlsHosting
{
    /// <summary>Mutual TLS on every connection between silos, and from clients to the gateway where one is open. The files are read
    /// here, and watched from the silo's start.</summary>
    /// <exception cref="ClusterTlsException">The files cannot be used; the message is one line.</exception>
    public static ISiloBuilder UseClusterTls(this ISiloBuilder silo, ClusterTlsOptions options)
    {
        ArgumentNullException.ThrowIfNull(silo);
        silo.Services.AddClusterTls(options);
        return silo.Configure<SiloConnectionOptions>(connections =>
        {
            connections.ConfigureSiloInboundConnection(Called);
            connections.ConfigureSiloOutboundConnection(Calling);
            connections.ConfigureGatewayInboundConnection(Called);
        });
    }

    /// <summary>Mutual TLS from a client to the gateways of such silos.</summary>
    /// <exception cref="ClusterTlsException">The files cannot be used; the message is one line.</exception>
    public static IClientBuilder UseClusterTls(this IClientBuilder client, ClusterTlsOptions options)
    {
        ArgumentNullException.ThrowIfNull(client);
        client.Services.AddClusterTls(options);
        return client.Configure<ClientConnectionOptions>(connections => connections.ConfigureConnection(Calling));
    }

    private static void AddClusterTls(this IServiceCollection services, ClusterTlsOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        ClusterCertificate first = ClusterCertificate.Load(options);
        services.TryAddSingleton(options);
        services.TryAddSingleton(s => ActivatorUtilities.CreateInstance<ClusterCertificateSource>(s, first));
        services.TryAddSingleton<ClusterTlsServer>();
        services.TryAddSingleton<ClusterTlsClient>();
    }

    private static void Called(IConnectionBuilder connection) =>
        connection.UseMiddleware(connection.ApplicationServices.GetRequiredService<ClusterTlsServer>());

    private static void Calling(IConnectionBuilder connection) =>
        connection.UseMiddleware(connection.ApplicationServices.GetRequiredService<ClusterTlsClient>());
}
