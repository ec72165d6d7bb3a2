// snippet: guarded
