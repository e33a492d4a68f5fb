"""Hostile input: what is fuzzed, from which seeds, how it is changed, and how it is judged.

targets    the readers and loaders of `vsr`, each from bytes
seeds      small honest files to begin with
mutate     changes of bytes, and of what lies within containers
judge      one case: what counts as a finding; limits of memory and time
child      a process that tries many cases, guided by coverage where atheris is installed
shrink     makes a finding small
"""
