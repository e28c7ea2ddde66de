-- Put the fence of chunks that retention removed beyond all attempts made before a loss.
UPDATE pruned_chunks SET attempts = attempts + %(step)s
