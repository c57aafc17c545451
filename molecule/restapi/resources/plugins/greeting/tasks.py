from dioptra import pyplugs


@pyplugs.register
def greet(name: str, times: int = 1) -> dict[str, str]:
    return {"to": name, "text": " ".join(["Hello"] * times)}
