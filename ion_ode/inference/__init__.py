"""Fitted and posterior membranes"""
