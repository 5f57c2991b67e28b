using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;

namespace Experiments.Kernels.Tests.Instances;

public sealed class InstanceAxesTests
{
    private static readonly IInstanceFamily Uniform = BuiltIn.Family("uniform");

    [Fact]
    public void An_instance_that_names_none_of_them_is_what_its_family_draws()
    {
        AttentionProblem<double> drawn = Assert.Single(Draw());
        AttentionProblem<double> plain = Uniform.Draw(Request());

        Assert.Equal(plain.A1, drawn.A1);
        Assert.Equal(plain.E, drawn.E);
        Assert.Equal((LogitScale.D, false), (drawn.Scale, drawn.Causal));
        Assert.All(InstanceAxes.Of(Uniform), axis => Assert.Null(axis.Default));
    }

    [Fact]
    public void Scale_and_mask_are_the_problem_s_and_leave_its_numbers_as_they_are()
    {
        AttentionProblem<double> drawn = Assert.Single(Draw(("scale", "sqrt-d"), ("mask", "causal")));

        Assert.Equal((LogitScale.SqrtD, true), (drawn.Scale, drawn.Causal));
        Assert.Equal(Draw()[0].A1, drawn.A1);
        Assert.Equal((LogitScale.D, false), (Draw(("scale", "d"), ("mask", "none"))[0].Scale, false));
    }

    [Fact]
    public void Heads_times_batch_problems_are_drawn_each_from_a_key_of_its_own()
    {
        AttentionProblem<double>[] parts = Draw(("heads", 3L), ("batch", 2L), ("mask", "causal"));

        Assert.Equal(6, parts.Length);
        Assert.All(parts, p => Assert.True(p.Causal));
        Assert.Equal(6, parts.Select(p => p.A2[0]).Distinct().Count());
        Assert.Equal(6, parts.Select(p => p.E[5]).Distinct().Count());

        // The same again, and the first of them whatever the number.
        Assert.Equal(parts.Select(p => p.A1[1]), Draw(("heads", 6L)).Select(p => p.A1[1]));
        Assert.Equal(parts[0].A3, Draw(("heads", 2L))[0].A3);
    }

    [Fact]
    public void A_family_whose_drawing_does_not_depend_on_the_key_has_a_single_problem()
    {
        IInstanceFamily files = BuiltIn.Family("files");

        Assert.Equal(["scale", "mask"], InstanceAxes.Of(files).Select(a => a.Name));
        Assert.Equal(["scale", "mask", "heads", "batch"], InstanceAxes.Of(Uniform).Select(a => a.Name));
        ArgumentException refused = Assert.Throws<ArgumentException>(
            () => InstanceAxes.Draw(files, Request() with { Settings = Problems.Set(("heads", 2L)) }));
        Assert.Equal("heads and batch make 2 problems, and files gives the same one each time. Leave them out.", refused.Message);
    }

    private static InstanceRequest Request() => new(20, 3, 1.5, 77, Settings.None);

    private static AttentionProblem<double>[] Draw(params (string, object)[] settings) =>
        InstanceAxes.Draw(Uniform, Request() with { Settings = Problems.Set(settings) });
}
