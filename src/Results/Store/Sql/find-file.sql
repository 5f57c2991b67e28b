SELECT sha256, bytes FROM experiments.file WHERE content = $1
