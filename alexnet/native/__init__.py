"""Operations in C++, one pass over memory each where torch and numpy take several; all are stated in plain torch too."""
