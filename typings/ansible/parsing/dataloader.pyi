"""The part of ansible.parsing.dataloader that the tests of this project use."""

class DataLoader:
    def __init__(self) -> None: ...
