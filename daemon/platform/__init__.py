"""Everything Supervisely: listing, news, pictures, flags, rights and collections. The SDK's only place."""
