"""The formats of requests and answers, as marshmallow schemas. Touches no database.

Incoming text is hostile: each field accepts what its standard allows and nothing else.
"""
