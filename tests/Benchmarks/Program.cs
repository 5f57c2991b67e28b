using Experiments.Benchmarks;

return Application.Run(args, rivals: null);
