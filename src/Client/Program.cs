using Experiments.Client;
using Experiments.Client.Terminals;

using Terminal terminal = Terminal.OfThisProcess();
return await Application.RunAsync(args, terminal);
