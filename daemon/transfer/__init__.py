"""Vectors out of one store and into another, by way of files that numpy and any JSON reader understand."""
