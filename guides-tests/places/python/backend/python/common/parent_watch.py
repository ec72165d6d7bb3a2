# snippet: re-export
