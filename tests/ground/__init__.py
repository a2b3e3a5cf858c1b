"""The ground: settings, errors, languages, logs, money, the line to the store."""
