"""Clips, posters and pictures as files, and small files written safely. Imports no torch."""
