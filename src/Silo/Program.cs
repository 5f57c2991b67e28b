using System.Text;
using Experiments.Silo.CommandLine;
using Experiments.Silo.Hosting;

using Interrupts interrupts = new();
interrupts.Listen();
using TextWriter error = TextWriter.Synchronized(
    new StreamWriter(Console.OpenStandardError(), new UTF8Encoding(encoderShouldEmitUTF8Identifier: false)) { AutoFlush = true });
return await new SiloProgram(Console.Out, error, Environment.GetEnvironmentVariable, interrupts, TimeProvider.System).RunAsync(args);
