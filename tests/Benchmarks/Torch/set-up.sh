#!/usr/bin/env bash
# Sets up the rival of `compare --against torch`: fetches TorchSharp and libtorch (about 0.5 GB, into NuGet's own cache),
# builds the program beside this script and makes sure that libtorch loads. Linux on x64; needs the .NET SDK, no more.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"

if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "This is $(uname -sm); the torch rival is set up on Linux x86_64 only. Use compare --against none here." >&2
  exit 1
fi

dotnet build -c Release "$here/Torch.csproj"
dotnet "$here/bin/Release/net10.0/Experiments.Torch.dll" prepare
echo
echo "Now: dotnet run -c Release --project tests/Benchmarks -- compare --against torch"
