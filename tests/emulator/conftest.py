from platform_emulator.fixtures import api, as_user, emulator, project, sly, world

__all__ = ["api", "as_user", "emulator", "project", "sly", "world"]
