"""Contest, scores, claims, figures (chapter 05)"""
