"""The Donnan-steric pore model with dielectric exclusion (chapter 00)"""
