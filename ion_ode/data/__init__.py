"""Measurements and simulated curves (chapter 01)"""
