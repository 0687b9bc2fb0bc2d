"""The configuration: what a tier file may say, how it is read and checked, and which runs follow from it."""
