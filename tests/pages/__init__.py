"""The pages as people get them: words, languages, queries, styles, and a real Chromium with and without scripts."""
