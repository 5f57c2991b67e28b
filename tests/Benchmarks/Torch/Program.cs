using Experiments.Benchmarks;
using Experiments.Torch;

if (args is ["prepare"])
{
    return OldRuntime.Prepare();
}

return Application.Run(args, new TorchRivals());
