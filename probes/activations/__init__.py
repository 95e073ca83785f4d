"""(the lead writes this)"""
