namespace Experiments.Client.Tests;

public sealed class InterruptTests
{
    [Fact]
    public void A_hang_up_that_nobody_can_be_told_of_stops_the_command_all_the_same()
    {
        using Interrupts interrupts = new();
        interrupts.Signalled += _ => throw new IOException("Input/output error");
        interrupts.Raise();
        Assert.True(interrupts.Finish.IsCancellationRequested);
        Assert.False(interrupts.Now.IsCancellationRequested);
        interrupts.Raise();
        Assert.True(interrupts.Now.IsCancellationRequested);
    }
}
