using System.CommandLine;
using Experiments.Client.Terminals;

namespace Experiments.Client.Verbs;

/// <summary>Prints a script that completes verbs, options and their values in a shell.</summary>
internal static class CompletionVerb
{
    // Each asks the program itself: "[suggest:POSITION]" is System.CommandLine's own directive.
    private const string Bash = """
        _experiments() {
            local IFS=$'\n'
            local candidates
            candidates="$("${COMP_WORDS[0]}" "[suggest:${COMP_POINT}]" "${COMP_LINE}" 2>/dev/null)"
            COMPREPLY=($(compgen -W "${candidates}" -- "${COMP_WORDS[COMP_CWORD]}"))
        }
        complete -o default -F _experiments experiments
        """;

    private const string Zsh = """
        #compdef experiments
        _experiments() {
            local -a candidates
            candidates=("${(@f)$("${words[1]}" "[suggest:${#BUFFER}]" "${BUFFER}" 2>/dev/null)}")
            if [[ -n "${candidates[1]}" ]]; then
                compadd -- "${candidates[@]}"
            else
                _files
            fi
        }
        compdef _experiments experiments
        """;

    private const string Fish = """
        function __experiments_complete
            set -l line (commandline -cp)
            experiments "[suggest:"(string length -- $line)"]" "$line" 2>/dev/null
        end
        complete -c experiments -a '(__experiments_complete)'
        """;

    private const string PowerShell = """
        Register-ArgumentCompleter -Native -CommandName experiments -ScriptBlock {
            param($wordToComplete, $commandAst, $cursorPosition)
            experiments "[suggest:$cursorPosition]" "$commandAst" 2>$null | ForEach-Object {
                [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
            }
        }
        """;

    public static Command Create(Terminal terminal)
    {
        Argument<string> shell = new("shell") { HelpName = "bash|zsh|fish|powershell", Description = "Which shell" };
        shell.AcceptOnlyFromAmong("bash", "zsh", "fish", "powershell");
        return new Verb("completion", "Print the completion script of a shell")
        {
            Examples =
            [
                ("experiments completion bash >> ~/.bashrc", "complete verbs and options in bash"),
                ("experiments completion fish > ~/.config/fish/completions/experiments.fish", "and in fish"),
            ],
            Arguments = { shell },
        }.Runs(terminal, invocation =>
        {
            string script = invocation.Value(shell) switch
            {
                "bash" => Bash,
                "zsh" => Zsh,
                "fish" => Fish,
                _ => PowerShell,
            };
            terminal.Out.WriteLine(script);
            return Task.FromResult(ExitCode.Done);
        });
    }
}
