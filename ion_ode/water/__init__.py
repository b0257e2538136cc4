"""Water: ions, units, activity, feeds"""
