"""Training (chapter 04)"""
