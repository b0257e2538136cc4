"""The attention-enhanced neural ODE (chapters 02 and 03)"""
