"""The shapes of what comes in and goes out, as marshmallow schemas. Touches no database.

Incoming text is hostile: each field accepts what its standard allows and nothing else.
"""
